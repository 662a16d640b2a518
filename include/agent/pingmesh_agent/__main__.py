"""The entry point: `python3 ~/.pingmesh/agent.py COMMAND`, or this file in a checkout.

On a host `agent.py` is a symbolic link to this file in the installed release. The link is resolved
once, so that a process imports all modules from one release even if the link is switched meanwhile.
This file must be valid in Python 3.6 too: it names the version that the agent needs.
"""

import os
import sys


def main(arguments):  # type: ignore[no-untyped-def]
    """Run a command and return its exit code; `run` continues in a new interpreter."""
    if sys.version_info < (3, 8):
        sys.stderr.write(
            "the agent needs Python 3.8 or later, this is %s\n" % sys.version.split()[0]
        )
        return 1
    package = os.path.dirname(os.path.realpath(__file__))
    directory = os.path.dirname(package)
    # Without -I Python puts the directory of a script first, where the agent's `trace` would hide
    # the module of that name in the standard library.
    sys.path[:] = [directory] + [path for path in sys.path if os.path.realpath(path) != package]
    from pingmesh_agent import commands

    if arguments[:1] == ["run"] and sys.executable:
        run_from_bytecode(directory, arguments)  # type: ignore[no-untyped-call]
    return commands.main(arguments)


def run_from_bytecode(directory, arguments):  # type: ignore[no-untyped-def]
    """Replace this process by one that imports the package from its bytecode.

    The import in this process cached the bytecode beside the files. Compiling leaves 3 MB behind in
    a process that runs for months; an import from bytecode does not.
    """
    imports = "import sys; sys.path.insert(0, %r); from pingmesh_agent import commands" % directory
    program = imports + "; sys.exit(commands.main(sys.argv[1:]))"
    os.execv(sys.executable, [sys.executable, "-I", "-S", "-c", program, *arguments])  # noqa: S606


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))  # type: ignore[no-untyped-call]

"""The entry point: `python3 ~/.pingmesh/agent.py COMMAND`, or this file of a checkout.

On a host `agent.py` is a symbolic link to this file in the installed release. The link is resolved once, so that a
process imports all modules from one release even while the link is switched to the next. This file has to be valid
for older Pythons: it tells them which version the agent needs.
"""

import os
import sys


def main(arguments):  # type: ignore[no-untyped-def]
    if sys.version_info < (3, 8):
        sys.stderr.write("the agent needs Python 3.8 or later, this is %s\n" % sys.version.split()[0])
        return 1
    package = os.path.dirname(os.path.realpath(__file__))
    directory = os.path.dirname(package)
    # Without -I Python puts the directory of a script first: there our `trace` hides that of the standard library.
    sys.path[:] = [directory] + [path for path in sys.path if os.path.realpath(path) != package]
    from pingmesh_agent import commands

    if arguments[:1] == ["run"] and sys.executable:
        run_from_bytecode(directory, arguments)  # type: ignore[no-untyped-call]
    return commands.main(arguments)


def run_from_bytecode(directory, arguments):  # type: ignore[no-untyped-def]
    """Replace this process by one that imports the package again.

    The import here cached the bytecode beside the files. To compile leaves 3 MB behind in a process that lives for
    months; to import the bytecode does not.
    """
    imports = "import sys; sys.path.insert(0, %r); from pingmesh_agent import commands" % directory
    program = imports + "; sys.exit(commands.main(sys.argv[1:]))"
    os.execv(sys.executable, [sys.executable, "-I", "-S", "-c", program, *arguments])  # noqa: S606


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))  # type: ignore[no-untyped-call]

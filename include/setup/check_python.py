"""Say what is missing before anything is installed. Runs under any Python 3."""

import sys


def main():
    if sys.version_info < (3, 11):
        return "Python {}.{} is too old: 3.11 or newer is needed. Try `make PYTHON=python3.12`.".format(*sys.version_info)
    try:
        import ensurepip  # noqa: F401
        import venv  # noqa: F401
    except ImportError:
        return "this Python cannot make virtual environments: install its venv module (`apt install python3-venv`)."
    return None


if __name__ == "__main__":
    fault = main()
    if fault:
        sys.exit("setup: " + fault)

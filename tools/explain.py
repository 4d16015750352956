"""`python tools/explain.py ...` is `python -m densessl explain ...`."""

import sys

from densessl.command_line import main

if __name__ == "__main__":
    sys.argv.insert(1, "explain")
    main()

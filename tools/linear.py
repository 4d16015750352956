"""`python tools/linear.py ...` is `python -m densessl linear ...`."""

import sys

from densessl.command_line import main

if __name__ == "__main__":
    sys.argv.insert(1, "linear")
    main()

"""`python tools/attention.py ...` is `python -m densessl attention ...`."""

import sys

from densessl.command_line import main

if __name__ == "__main__":
    sys.argv.insert(1, "attention")
    main()

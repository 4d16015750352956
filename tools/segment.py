"""`python tools/segment.py ...` is `python -m densessl segment ...`."""

import sys

from densessl.command_line import main

if __name__ == "__main__":
    sys.argv.insert(1, "segment")
    main()

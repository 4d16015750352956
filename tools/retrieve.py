"""`python tools/retrieve.py ...` is `python -m densessl retrieve ...`."""

import sys

from densessl.command_line import main

if __name__ == "__main__":
    sys.argv.insert(1, "retrieve")
    main()

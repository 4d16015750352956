"""`python tools/paste.py ...` is `python -m densessl paste ...`."""

import sys

from densessl.command_line import main

if __name__ == "__main__":
    sys.argv.insert(1, "paste")
    main()

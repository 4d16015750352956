"""`python tools/check_data.py ...` is `python -m densessl check_data ...`."""

import sys

from densessl.command_line import main

if __name__ == "__main__":
    sys.argv.insert(1, "check_data")
    main()

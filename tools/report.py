"""`python tools/report.py ...` is `python -m densessl report ...`."""

import sys

from densessl.command_line import main

if __name__ == "__main__":
    sys.argv.insert(1, "report")
    main()

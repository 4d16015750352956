"""`python tools/evaluate.py ...` is `python -m densessl evaluate ...`."""

import sys

from densessl.command_line import main

if __name__ == "__main__":
    sys.argv.insert(1, "evaluate")
    main()

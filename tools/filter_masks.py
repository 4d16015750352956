"""`python tools/filter_masks.py ...` is `python -m densessl filter_masks ...`."""

import sys

from densessl.command_line import main

if __name__ == "__main__":
    sys.argv.insert(1, "filter_masks")
    main()

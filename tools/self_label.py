"""`python tools/self_label.py ...` is `python -m densessl self_label ...`."""

import sys

from densessl.command_line import main

if __name__ == "__main__":
    sys.argv.insert(1, "self_label")
    main()

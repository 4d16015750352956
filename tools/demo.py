"""`python tools/demo.py ...` is `python -m densessl demo ...`."""

import sys

from densessl.command_line import main

if __name__ == "__main__":
    sys.argv.insert(1, "demo")
    main()

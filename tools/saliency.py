"""`python tools/saliency.py ...` (or torchrun) is `python -m densessl saliency ...`."""

import sys

from densessl.command_line import main

if __name__ == "__main__":
    sys.argv.insert(1, "saliency")
    main()

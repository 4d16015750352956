"""`python tools/cluster.py ...` (or torchrun) is `python -m densessl cluster ...`."""

import sys

from densessl.command_line import main

if __name__ == "__main__":
    main(["cluster", *sys.argv[1:]])

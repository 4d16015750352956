"""`python tools/run.py ...` (or torchrun) is `python -m densessl run ...`."""

import sys

from densessl.command_line import main

if __name__ == "__main__":
    main(["run", *sys.argv[1:]])

"""`python tools/pretrain.py ...` (or torchrun) is `python -m densessl pretrain ...`."""

import sys

from densessl.command_line import main

if __name__ == "__main__":
    sys.argv.insert(1, "pretrain")
    main()

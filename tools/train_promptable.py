"""`python tools/train_promptable.py ...` (or torchrun) is `python -m densessl train_promptable ...`."""

import sys

from densessl.command_line import main

if __name__ == "__main__":
    sys.argv.insert(1, "train_promptable")
    main()

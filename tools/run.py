"""`python tools/run.py ...` is `python -m densessl run ...`."""

import sys

from densessl.command_line import main

if __name__ == "__main__":
    sys.argv.insert(1, "run")
    main()

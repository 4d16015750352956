"""`python tools/benchmark.py ...` is `python -m densessl benchmark ...`."""

import sys

from densessl.command_line import main

if __name__ == "__main__":
    sys.argv.insert(1, "benchmark")
    main()

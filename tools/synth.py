"""`python tools/synth.py ...` is `python -m densessl synth ...`."""

import sys

from densessl.command_line import main

if __name__ == "__main__":
    sys.argv.insert(1, "synth")
    main()

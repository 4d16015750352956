"""`python tools/embedding_space.py ...` is `python -m densessl embedding_space ...`."""

import sys

from densessl.command_line import main

if __name__ == "__main__":
    sys.argv.insert(1, "embedding_space")
    main()

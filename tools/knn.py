"""`python tools/knn.py ...` is `python -m densessl knn ...`."""

import sys

from densessl.command_line import main

if __name__ == "__main__":
    sys.argv.insert(1, "knn")
    main()

"""`python tools/predict.py ...` is `python -m densessl predict ...`."""

import sys

from densessl.command_line import main

if __name__ == "__main__":
    sys.argv.insert(1, "predict")
    main()

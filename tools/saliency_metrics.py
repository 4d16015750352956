"""`python tools/saliency_metrics.py ...` is `python -m densessl saliency_metrics ...`."""

import sys

from densessl.command_line import main

if __name__ == "__main__":
    sys.argv.insert(1, "saliency_metrics")
    main()

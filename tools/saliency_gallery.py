"""`python tools/saliency_gallery.py ...` is `python -m densessl saliency_gallery ...`."""

import sys

from densessl.command_line import main

if __name__ == "__main__":
    sys.argv.insert(1, "saliency_gallery")
    main()

"""`python tools/cluster.py ...` is `python -m densessl cluster ...`."""

import sys

from densessl.command_line import main

if __name__ == "__main__":
    sys.argv.insert(1, "cluster")
    main()

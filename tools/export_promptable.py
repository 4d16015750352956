"""`python tools/export_promptable.py ...` is `python -m densessl export_promptable ...`."""

import sys

from densessl.command_line import main

if __name__ == "__main__":
    sys.argv.insert(1, "export_promptable")
    main()

"""`python -m densessl <command>`."""

from densessl.command_line import main

if __name__ == "__main__":
    main()

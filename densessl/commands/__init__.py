"""The stages as functions; each is also a command of the same name (`python -m densessl <command> --help`)."""

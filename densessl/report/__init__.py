"""One self-contained HTML page per run: `read_run` gathers its contents, `write_report` draws it."""

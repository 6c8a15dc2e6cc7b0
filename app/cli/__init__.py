"""The command line: one file per group of commands, the same words as the API."""

from app.cli.main import main

__all__ = ["main"]

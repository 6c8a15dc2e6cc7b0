"""The command `python -m model_build`; nothing but the entry."""

from model_build.cli import commands

if __name__ == "__main__":
    commands(prog_name="python -m model_build")

"""The command `momo` and its Python calls: one entry for what the scripts of `pipelines/` do."""

from pipelines.commands.dispatch import main

__all__ = ["main"]

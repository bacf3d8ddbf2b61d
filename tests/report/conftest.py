"""The command line in a folder of its own, and a study that was searched once for all."""

from tests.cli.conftest import here, search, searched, tuner

__all__ = ["here", "search", "searched", "tuner"]

"""The trainer class that nnU-Net runs as a trial, as one file that needs torch, numpy and nnU-Net only."""

import ast

from tuner.export.embedding import assembled, text_of
from tuner.losses.catalog.registry import LOSSES

PARTS = ("tuner.data.splits", "tuner.export.nnunet_trainer", "tuner.export.nnunet_search_trainer")
"""Modules whose bodies make up the file, each after those that it imports from."""


def search_trainer_source() -> str:
    """Return the source: the division of cases, the trainer of an export, and upon it that of a trial.

    Every loss of the catalogue is in it, as it is here.
    """
    losses = {str(path).partition(":")[0] for row in LOSSES.values() for path in (row.fn, row.state) if path}
    head = ast.get_docstring(ast.parse(text_of(PARTS[-1])))
    return assembled(PARTS, head=str(head), modules=losses)

"""Losses written down a second time: plain numpy loops in float64, from the formulas, without torch and without ours.

`python -m tests.losses.by_hand.make` writes own_vectors.json beside the tests; the runner reads it.
"""

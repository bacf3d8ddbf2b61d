"""TransUNet's official division of the Synapse cases, as data."""

OFFICIAL_TRAIN = tuple(
    f"case{number:04d}" for number in (5, 6, 7, 9, 10, 21, 23, 24, 26, 27, 28, 30, 31, 33, 34, 37, 39, 40)
)
OFFICIAL_TEST = tuple(f"case{number:04d}" for number in (1, 2, 3, 4, 8, 22, 25, 29, 32, 35, 36, 38))

RAW_TO_SYNAPSE = {8: 1, 4: 2, 3: 3, 2: 4, 6: 5, 11: 6, 1: 7, 7: 8}
"""Label ids of the challenge's files -> ids of the benchmark; every other one becomes background."""

RAW_LABELS = 14
"""Ids of the challenge's files are 0 to 13."""

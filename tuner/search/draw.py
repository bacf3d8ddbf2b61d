"""Random numbers of a suggestion: the same wherever it is made, another one for every place in the budget."""

import numpy as np


def generator(seed: int, slot: int, *stream: int) -> np.random.RandomState:
    """Return the generator for a budget slot of a study; `stream` makes further independent ones."""
    return np.random.RandomState(np.random.MT19937(np.random.SeedSequence([seed, slot, *stream])))

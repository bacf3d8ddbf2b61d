"""Every loss of the registry, in 2-D and 3-D: a new row gets all properties by being listed."""

import pytest
import torch

from tests.losses.images import ALL, SHAPES

# small tensors: a second thread only waits for the first, and on a busy machine both wait
torch.set_num_threads(1)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "entry" in metafunc.fixturenames:
        metafunc.parametrize("entry", ALL, ids=[entry.name for entry in ALL])
    if "shape" in metafunc.fixturenames:
        metafunc.parametrize("shape", list(SHAPES.values()), ids=list(SHAPES))

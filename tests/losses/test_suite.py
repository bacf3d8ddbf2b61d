"""The behaviour suite that others can subclass, on every loss of the catalogue."""

import pytest

from tuner.losses.spec import LossSpec
from tuner.testing.loss import LossSuite


class TestLoss(LossSuite):
    """Every declaration."""

    @pytest.fixture
    def loss(self, entry: LossSpec) -> LossSpec:
        """One after the other."""
        return entry

    @pytest.fixture
    def shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:  # parametrised by the conftest of this folder
        """2-D and 3-D."""
        return shape

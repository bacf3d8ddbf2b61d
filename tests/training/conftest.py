"""Small data and configurations that train in a blink."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.training.samples import make_config, make_data
from tuner.config.trial import TrialConfig
from tuner.data.preparation import PreparedData


@pytest.fixture
def data(tmp_path: Path) -> PreparedData:
    """Six training cases and two validation cases of four slices, 32 x 32, three classes."""
    return make_data(tmp_path / "prepared")


@pytest.fixture
def config() -> Callable[..., TrialConfig]:
    """Return a configuration of a tiny U-Net; keywords are train options, or sections."""
    return make_config

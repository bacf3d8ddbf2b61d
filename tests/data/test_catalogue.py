"""The list of data sets: light to read, complete, and true."""

import inspect
import subprocess
import sys

import pytest

from tuner.data.catalogue import DATASETS, DatasetEntry
from tuner.registry import load


def test_reading_it_imports_nothing_heavy() -> None:
    """`tuner datasets` answers at once."""
    code = (
        "import sys, tuner.data.catalogue, tuner.data.augmentation, tuner.data.validation;"
        "print(sorted({'torch', 'numpy', 'h5py', 'nibabel', 'scipy'} & set(sys.modules)))"
    )

    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_checking_needs_no_torch() -> None:
    """`tuner data check` and `describe` do not wait for torch."""
    code = (
        "import sys, tuner.data.check, tuner.data.describe, tuner.data.prepare_synapse, tuner.data.synapse,"
        " tuner.data.phantom; print(sorted({'torch', 'h5py', 'nibabel'} & set(sys.modules)))"
    )

    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


@pytest.mark.parametrize("entry", DATASETS.values(), ids=lambda entry: entry.name)
def test_rows_name_real_functions(entry: DatasetEntry) -> None:
    """A row is text; what it names must exist and take what it is called with."""
    assert list(inspect.signature(load(entry.source)).parameters) == ["options", "data_root"]
    if entry.check:
        assert list(inspect.signature(load(entry.check)).parameters) == ["data_root", "memory"]
    if entry.convert:
        assert list(inspect.signature(load(entry.convert)).parameters) == ["raw", "out", "test", "progress"]


@pytest.mark.parametrize("entry", DATASETS.values(), ids=lambda entry: entry.name)
def test_defaults_are_legal(entry: DatasetEntry) -> None:
    """A default that its own option refuses would refuse every study."""
    assert entry.class_names[0] == "background"
    assert "size" in {option.name for option in entry.options}
    for option in entry.options:
        assert option.problem(option.default) is None
        assert option.summary.endswith(".")

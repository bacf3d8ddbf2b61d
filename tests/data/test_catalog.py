"""The list of data sets: light to read, complete, and true."""

import inspect
import subprocess
import sys

import pytest

from tuner.config.study import find_study_file, load_spec
from tuner.data.catalog import DATASETS, DatasetSpec
from tuner.registry import load


def test_reading_it_imports_nothing_heavy() -> None:
    """`tuner datasets` answers at once."""
    code = (
        "import sys, tuner.data.catalog, tuner.data.splits;"
        "print(sorted({'torch', 'numpy', 'h5py', 'nibabel', 'scipy'} & set(sys.modules)))"
    )

    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_checking_needs_no_torch() -> None:
    """`tuner data check` and `describe` do not wait for torch."""
    code = (
        "import sys, tuner.data.checks, tuner.data.describe, tuner.data.datasets.synapse_convert,"
        " tuner.data.datasets.synapse,"
        " tuner.data.datasets.phantom, tuner.data.datasets.image_folder, tuner.data.datasets.cityscapes,"
        " tuner.data.datasets.nnunet, tuner.data.datasets.nnunet;"
        " print(sorted({'torch', 'h5py', 'nibabel'} & set(sys.modules)))"
    )

    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


@pytest.mark.parametrize("entry", DATASETS.values(), ids=lambda entry: entry.name)
def test_rows_name_real_functions(entry: DatasetSpec) -> None:
    """A row is text; what it names must exist and take what it is called with."""
    assert list(inspect.signature(load(entry.source)).parameters) == ["options", "data_root"]
    if entry.check:
        assert list(inspect.signature(load(entry.check)).parameters) == ["options", "data_root", "memory"]
    if entry.convert:
        assert list(inspect.signature(load(entry.convert)).parameters) == ["raw", "out", "test", "on_progress"]


@pytest.mark.parametrize("entry", DATASETS.values(), ids=lambda entry: entry.name)
def test_defaults_are_legal(entry: DatasetSpec) -> None:
    """A default that its own option refuses would refuse every study."""
    assert not entry.background or not entry.class_names or entry.class_names[0] == "background"
    assert "size" in {option.name for option in entry.options}
    for option in entry.options:
        assert option.problem(option.default) is None
        assert option.summary.endswith(".")


@pytest.mark.parametrize("entry", DATASETS.values(), ids=lambda entry: entry.name)
def test_every_data_set_ships_a_study(entry: DatasetSpec) -> None:
    """`tuner launch --dataset NAME` works for every name that is listed, with the survey's 14 losses."""
    spec = load_spec(find_study_file(entry.name))

    assert spec.name == spec.base.dataset["name"] == entry.name
    (losses,) = (dimension for dimension in spec.space.dimensions if dimension.name == "loss")
    assert len(losses.choices or ()) == 14

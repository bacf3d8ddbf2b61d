"""Names that moved in 0.2.0: the old place works, says the new one, and goes when it was said to go."""

import re
from importlib import import_module

import pytest

import tuner.config
from tests.conftest import REPOSITORY
from tuner import __version__
from tuner.config.study import StudySpec, load_spec
from tuner.config.trial import TrialConfig, load_config
from tuner.deprecated import REMOVED_IN
from tuner.storage.optuna_schema import optuna_storage
from tuner.storage.storage import Storage, check, upgrade
from tuner.training.epoch_report import Diverged, EpochReport

MOVED = {
    "tuner.training.reports.EpochReport": EpochReport,
    "tuner.training.reports.Diverged": Diverged,
    "tuner.spec.StudySpec": StudySpec,
    "tuner.spec.load_spec": load_spec,
    "tuner.store.store.Store": Storage,
    "tuner.store.store.check": check,
    "tuner.store.store.upgrade": upgrade,
    "tuner.store.optuna_storage.optuna_storage": optuna_storage,
}


@pytest.mark.parametrize("old", MOVED)
def test_the_old_name_works_and_says_the_new_one(old: str) -> None:
    """A notebook of last month runs, and knows what to change."""
    module, _, name = old.rpartition(".")
    place = import_module(module)

    with pytest.warns(DeprecationWarning, match=f"{re.escape(old)} is now tuner.*{REMOVED_IN}"):
        assert getattr(place, name) is MOVED[old]
    with pytest.raises(AttributeError):
        _ = place.never_there


def test_the_config_package_exports_its_classes() -> None:
    """`from tuner.config import TrialConfig` is how it is documented."""
    assert tuner.config.TrialConfig is TrialConfig
    assert tuner.config.load_config is load_config
    assert tuner.config.StudySpec is StudySpec
    assert tuner.config.load_spec is load_spec


def test_old_names_go_in_time_and_are_told() -> None:
    """A promise of one minor version, in the upgrade notes."""
    ours, until = ([int(part) for part in text.split(".")[:2]] for text in (str(__version__), REMOVED_IN))
    notes = (REPOSITORY / "docs" / "releases.md").read_text(encoding="utf-8")

    assert ours < until, "delete tuner/deprecated.py, the modules that use it, and this file"
    assert [old for old in MOVED if f"`{old}`" not in notes] == []

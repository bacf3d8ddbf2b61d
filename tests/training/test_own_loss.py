"""`loss: {entry: package.module:function}`: declared, searched, trained, exported, and imported by trainings only."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml

from tests.worker.studies import create, settings, tiny, work
from tuner.analysis.export import export_trial
from tuner.config.study import load_spec
from tuner.config.trial import load_config
from tuner.config.yaml_reader import YamlDocument
from tuner.errors import EntryError, SpecError
from tuner.losses.own import OwnLoss
from tuner.storage.storage import Storage
from tuner.training.custom import load_entry

HERE = "tests.training.own_losses"
SEARCH = f"search.loss=[dice, {{entry: {HERE}:soft_focal}}]"


def test_options_come_from_the_annotations() -> None:
    """Legal intervals and what is searched are said once, where the function is."""
    spec = tiny(SEARCH)
    gamma, mode = spec.space.find("loss.soft_focal.gamma"), spec.space.find("loss.soft_focal.mode")

    assert gamma is not None
    assert mode is not None
    assert (gamma.low, gamma.high, gamma.when) == (0.5, 4.0, ("loss", "soft_focal"))
    assert mode.choices == ("mean", "hardest")
    own = next(candidate for candidate in spec.candidates if candidate.name == "soft_focal")
    assert own.defaults == {"loss.soft_focal.gamma": 2.0, "loss.soft_focal.mode": "mean"}
    narrowed = tiny(SEARCH, **{"search.loss.soft_focal.gamma": {"low": 1, "high": 2}}).space.find(
        "loss.soft_focal.gamma"
    )
    assert narrowed is not None
    assert (narrowed.low, narrowed.high) == (1, 2)


def test_reading_a_study_imports_nothing_and_a_stored_one_needs_no_source(tmp_path: Path) -> None:
    """The service lists studies of code that it may not run, and may not even have."""
    spec = tiny(SEARCH)
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(spec.as_dict()))
    (tmp_path / "bombs.py").write_text(
        "raise SystemExit(3)\ndef bomb(logits, target, *, ignore_index, a: float = 1.0): ...\n"
    )
    code = """if True:
        import sys
        from pathlib import Path
        from tuner.config.study import load_spec
        from tuner.config.yaml_reader import parse_yaml, read_yaml
        spec = load_spec(read_yaml(Path("study.yaml")))
        assert spec.space.find("loss.soft_focal.gamma").high == 4.0
        assert not [name for name in sys.modules if name.startswith("tests")], "imported"
        own = load_spec(parse_yaml("dataset: phantom\\nloss: {entry: 'bombs:bomb', a: 3}"))
        assert own.base.loss["bomb"] == {"a": 3.0}, own.base.loss
    """
    root = str(Path(__file__).resolve().parent.parent.parent / "tuner")
    link = tmp_path / "tuner"
    link.symlink_to(root)

    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("no spelling", "is not spelt"),
        (f"{HERE}:missing", "no function or class 'missing'"),
        ("nowhere.at_all:loss", "not on this machine's import path"),
        (f"{HERE}:without_default", "has no default"),
        (f"{HERE}:computed_limit", "computed_limit"),
    ],
)
def test_a_wrong_declaration_is_refused(entry: str, message: str) -> None:
    """Before anything is created, and with what would be right."""
    with pytest.raises(SpecError, match=message):
        tiny(f"search.loss=[dice, {{entry: '{entry}'}}]")


def test_an_option_outside_its_interval_is_refused() -> None:
    """As of any other loss."""
    spec = {"dataset": "phantom", "loss": {"entry": f"{HERE}:soft_focal", "gamma": 6}}
    with pytest.raises(SpecError, match=r"loss.soft_focal.gamma: 6 is above the limit 5"):
        load_spec(YamlDocument(spec, {}, None))


def test_it_is_searched_trained_and_exported(tmp_path: Path) -> None:
    """A whole study with it, by a worker; its export is a configuration that trains again."""
    url = f"sqlite:///{tmp_path / 'tuner.db'}"
    places = settings(tmp_path, url)
    with Storage.open(url, create=True) as store:
        create(store, tiny(SEARCH, "train.epochs=1", "budget.trials_per_loss=1", "search.train.lr=0.01"))
        work(store, places)
        rows = store.queries.trials("tiny")
        own = next(row for row in rows if row["loss"] == "soft_focal")
        config = export_trial(store, "tiny", number=own["number"])

    assert {row["state"] for row in rows} == {"COMPLETE"}
    again = load_config(config.as_dict())
    assert again.loss["entry"] == f"{HERE}:soft_focal"
    assert again.parameters()["loss.soft_focal.gamma"] == own["params"]["loss.soft_focal.gamma"]


def test_where_it_is_not_allowed_the_trial_fails_and_says_so(tmp_path: Path) -> None:
    """Code of a study that somebody posted runs nowhere by itself."""
    url = f"sqlite:///{tmp_path / 'tuner.db'}"
    places = replace(settings(tmp_path, url), allow_entry=())
    with Storage.open(url, create=True) as store:
        create(store, tiny(f"search.loss=[{{entry: '{HERE}:soft_focal'}}]", "budget.trials=1", "budget.retries=0"))
        work(store, places)
        (row,) = store.queries.trials("tiny")

    assert (row["state"], row["reason"]) == ("FAIL", "error")


def own_loss(name: str) -> OwnLoss:
    function = load_entry(f"{HERE}:{name}", ("tests",))
    return OwnLoss(name, f"{HERE}:{name}", function, {}, classes=3, ignore_index=255)


def test_what_a_class_learns_goes_to_the_optimizer() -> None:
    """A loss with parameters is a module."""
    loss = own_loss("Tempered")
    logits, target = torch.randn(2, 3, 8, 8), torch.randint(0, 3, (2, 8, 8), dtype=torch.uint8)
    loss(logits, target).backward()

    (group,) = loss.parameter_groups()
    assert group["params"][0].grad is not None


def test_what_is_no_loss_is_said() -> None:
    """A map instead of a scalar is found in the first step, by name."""
    with pytest.raises(EntryError, match=r"returned \[2, 3, 8, 8\]"):
        own_loss("returns_a_map")(torch.randn(2, 3, 8, 8), torch.zeros(2, 8, 8, dtype=torch.long))


def test_the_example_of_the_documents_is_this_one() -> None:
    """docs/library.md shows code that runs."""
    docs = (Path(__file__).resolve().parent.parent.parent / "docs" / "library.md").read_text(encoding="utf-8")
    example = Path(__file__).with_name("own_losses.py").read_text(encoding="utf-8").split("# [docs]")[1]

    assert example.split("\n", 1)[1].strip() in docs

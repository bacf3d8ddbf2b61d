"""The survey's table: means over seeds, tuned against default, per class; checked against numbers put in by hand."""

import shutil
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.analysis.test_seed_spread import CLAIMS
from tests.api.demo import new_study
from tuner.artifacts.local import Artifacts
from tuner.config.study import StudySpec, load_spec
from tuner.config.yaml_reader import YamlDocument
from tuner.errors import ConflictError
from tuner.report.blocks import Band, Table
from tuner.report.collect import ReportData, collect, lines_of
from tuner.report.document import compose
from tuner.report.render import render_html, render_markdown
from tuner.report.tables import class_table, main_table
from tuner.storage.records import EpochRow, Outcome
from tuner.storage.states import Reason, State
from tuner.storage.storage import Storage

SURVEY = {
    "name": "survey",
    "dataset": {"name": "phantom"},
    "train": {"epochs": 2},
    "search": {
        "loss": ["dice", "focal"],
        "options": "default",
        "model.name": ["unet", "monai_unet"],
        "train.seed": [0, 1, 2],
    },
    "sampler": {"name": "grid"},
    "budget": {"trials": 12},
}
TUNED = {
    "name": "tuned",
    "dataset": {"name": "phantom"},
    "train": {"epochs": 2},
    "search": {"loss": ["dice", "focal"], "train.lr": {"low": 1e-5, "high": 1e-1, "log": True}},
    "budget": {"trials_per_loss": 2},
}
VALUES = {
    ("unet", "dice"): (0.70, 0.72, 0.77),
    ("unet", "focal"): (0.60, 0.61, 0.65),
    ("monai_unet", "dice"): (0.50, 0.55, 0.51),
    ("monai_unet", "focal"): (0.58, 0.59, 0.57),
}
DATA = {"fingerprint": "ab" * 32, "protocol": "share"}


def value_of(params: Mapping[str, Any], turn: int) -> float:
    """Return the value that a trial of these parameters gets."""
    if "train.seed" in params:
        return VALUES[params["model.name"], params["loss"]][int(params["train.seed"])]
    return 0.6 + 0.05 * turn


def run(store: Storage, spec: StudySpec) -> None:
    """Complete every trial; each has the classes liver (the value) and aorta (half of it)."""
    record = store.studies.get(spec.name)
    turn = 0
    while (claim := store.trials.claim(record.study_id, "worker")) is not None:
        params = {**claim.params}
        for dimension in spec.space.active(params):
            params.setdefault(dimension.name, dimension.nearest(0.02 if dimension.name == "train.lr" else 3.0))
        assert store.trials.set_params(claim, params, spec.space)
        value = value_of(params, turn)
        classes = {"dice": {"liver": value, "aorta": value / 2}}
        store.epochs.report(claim, EpochRow(1, value, {"dice": value, "hd95": 20 * value}, classes, 1.0, 1e-3, 1.0))
        store.trials.finish(claim, Outcome(State.COMPLETE, values=(value,), last=(1, value)))
        turn += 1


@pytest.fixture(scope="module")
def searched_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two studies on the same data, and one on other data; to be copied."""
    path = tmp_path_factory.mktemp("numbers") / "tuner.db"
    with Storage.open(f"sqlite:///{path}", create=True) as store:
        for content, resources in (
            (SURVEY, DATA),
            (TUNED, DATA),
            (TUNED | {"name": "other"}, {"fingerprint": "cd" * 32}),
        ):
            spec = load_spec(YamlDocument(content, {}, None))
            store.studies.create(new_study(spec, **resources))
            run(store, spec)
    return path


@pytest.fixture
def storage(searched_file: Path, tmp_path: Path) -> Iterator[Storage]:
    """A copy that may be changed."""
    shutil.copy(searched_file, tmp_path)
    with Storage.open(f"sqlite:///{tmp_path / 'tuner.db'}") as store:
        yield store


def read(store: Storage, folder: Path, *names: str) -> ReportData:
    """Return what a report is made of."""
    return collect(store, names, Artifacts(folder / "artifacts"))


def row_of(table: Table, loss: str) -> dict[str, str]:
    """Return a row by the names of its columns."""
    row = next(row for row in table.rows if not isinstance(row, Band) and row[0] == loss)
    return dict(zip(table.columns, row, strict=True))


@pytest.mark.parametrize(("model", "loss"), list(VALUES), ids=lambda name: str(name))
def test_defaults_are_means_and_deviations_over_seeds(storage: Storage, tmp_path: Path, model: str, loss: str) -> None:
    """The survey's comparison would be luck without them."""
    lines = lines_of(read(storage, tmp_path, "survey"), model)
    group = next(line.default for line in lines if line.loss == loss)
    values = np.array(VALUES[model, loss])

    assert group is not None
    assert len(group.entries) == 3
    assert group.mean == pytest.approx(values.mean())
    assert group.deviation == pytest.approx(values.std(ddof=1))
    assert group.of_class("dice", "aorta") == pytest.approx(values.mean() / 2)


def test_the_table_sets_tuned_against_default(storage: Storage, tmp_path: Path) -> None:
    """The gain of tuning is what the search is for; the two studies stand in one table."""
    material = read(storage, tmp_path, "survey", "tuned")
    lines = lines_of(material, "unet")
    tuned = {line.loss: line.tuned for line in lines}
    table = main_table(material, lines, {("tuned", 2): {"dice": 0.5}, ("tuned", 3): {"dice": 0.4}})

    assert [line.family for line in lines] == ["pixel", "region"]
    assert all(group is not None and len(group.entries) == 1 for group in tuned.values())
    row = row_of(table, "dice")
    assert row["dice, defaults"] == "0.7300 ± 0.0361 (3)"
    best = tuned["dice"]
    assert best is not None
    assert row["dice, tuned"] == f"{best.mean:.4f}"
    assert row["gain"] == f"{best.mean - 0.73:+.4f}"
    assert row["hd95"] == f"{20 * best.mean:.1f}"
    assert row["test dice"] in ("0.5000", "0.4000")
    assert row["trials"] == "5"


def test_the_best_of_a_column_is_marked(storage: Storage, tmp_path: Path) -> None:
    """Whatever the column's direction: the smaller hd95, the larger Dice."""
    material = read(storage, tmp_path, "survey")
    lines = lines_of(material, "unet")
    table = main_table(material, lines, {})
    marked = {(row[0], table.columns[n]) for place, n in table.marked if not isinstance(row := table.rows[place], Band)}

    assert marked == {("dice", "dice, defaults"), ("focal", "hd95")}
    of_classes = class_table(material, lines)
    assert of_classes is not None
    assert row_of(of_classes, "focal") == {"loss": "focal", "liver": "0.6200", "aorta": "0.3100"}


def test_other_data_is_refused(storage: Storage, tmp_path: Path) -> None:
    """Values on other validation cases cannot stand in one table."""
    with pytest.raises(ConflictError, match=r"'other' cannot stand in one table with 'survey': its data is cdcd"):
        read(storage, tmp_path, "survey", "other")


def test_a_study_without_a_value_has_no_report(storage: Storage, tmp_path: Path) -> None:
    """It says so, and how to see where the study stands."""
    storage.studies.create(new_study(load_spec(YamlDocument(TUNED | {"name": "young"}, {}, None))))
    claim = storage.trials.claim(storage.studies.get("young").study_id, "worker")
    assert claim is not None
    storage.trials.finish(claim, Outcome(State.FAIL, Reason.ERROR, "broken"))
    with pytest.raises(ConflictError, match="no trial of 'young' is complete yet"):
        read(storage, tmp_path, "young")


@pytest.mark.parametrize("form", ["html", "markdown"])
def test_the_document_answers_first_and_loads_nothing(storage: Storage, tmp_path: Path, form: str) -> None:
    """It opens offline: no script, no address; and the first sentence is the answer."""
    material = read(storage, tmp_path, "survey", "tuned")
    title, blocks = compose(material, storage, Artifacts(tmp_path / "artifacts"), tmp_path / "cache", {})
    text = render_html(title, blocks) if form == "html" else render_markdown(blocks)

    assert "Best value seen with unet: " in text
    assert "Best value seen with monai" in text
    assert "Not confirmed" in text
    assert CLAIMS.search(text) is None
    assert "No pictures" in text
    for outside in ("<script", "http://", "https://", "<link", "@import", 'src="/'):
        assert outside not in text.replace("http://www.w3.org/2000/svg", "")


def test_names_are_text() -> None:
    """A class called like markup must not become markup."""
    table = Table(["<b>", "a|b"], [["<img src=x onerror=alert(1)>", "1"], Band("[x](y)")], "`c`")

    html, markdown = render_html("t", [table]), render_markdown([table])

    assert "<img src=x" not in html
    assert "&lt;img" in html
    assert "| \\<img" in markdown
    assert "a\\|b" in markdown
    assert "\\[x\\](y)" in markdown


def test_copies_of_a_training_are_no_repeats(storage: Storage, tmp_path: Path) -> None:
    """Equal seed, equal training: a mean takes it once, and its deviation does not shrink."""
    material = read(storage, tmp_path, "survey")
    (chapter,) = material.chapters
    doubled = ReportData((replace(chapter, rows=[*chapter.rows, *chapter.rows]),))

    for once, twice in zip(lines_of(material, "unet"), lines_of(doubled, "unet"), strict=True):
        assert once.best is not None
        assert twice.best is not None
        assert len(once.best.entries) == len(twice.best.entries) == 3
        assert once.best.deviation == twice.best.deviation

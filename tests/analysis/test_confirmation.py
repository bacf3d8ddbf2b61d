"""Confirmations from their queue to their verdict: real workers, trainings of the product's own and of a user's."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.worker.seeded_trainings import value_of
from tests.worker.studies import create, settings, tiny, work
from tuner.analysis.confirmation import load_scores, read_confirmation, unconfirmed, verdict_document, verdict_of
from tuner.analysis.export import export_trial
from tuner.artifacts.local import Artifacts
from tuner.artifacts.remote import artifacts_of
from tuner.config.confirm_section import ConfirmSection
from tuner.config.study import StudySpec
from tuner.config.trial import load_config
from tuner.config.yaml_reader import read_yaml
from tuner.errors import ConflictError, NotFoundError
from tuner.launch.confirmation import advance
from tuner.settings import Settings
from tuner.storage.storage import Storage

CHILD = "tiny/confirmation"


@dataclass
class Place:
    """A study and its files."""

    store: Storage
    places: Settings
    files: Artifacts
    spec: StudySpec

    def confirm(self, **section: Any) -> bool:
        """Queue what is next and do it; tell whether there was anything."""
        if not advance(self.store, self.files, "tiny", ConfirmSection(**section)):
            return False
        work(self.store, self.places)
        return True

    def rows(self) -> list[dict[str, Any]]:
        return self.store.queries.trials(CHILD)


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Storage]:
    with Storage.open(f"sqlite:///{tmp_path / 'tuner.db'}", create=True) as store:
        yield store


def searched(store: Storage, folder: Path, *overrides: str) -> Place:
    """Search a study in this process."""
    places = settings(folder, f"sqlite:///{folder / 'tuner.db'}")
    spec = tiny("budget.trials=9", "search.train.lr=0.01", "search.options=default", *overrides)
    create(store, spec)
    work(store, places)
    return Place(store, places, artifacts_of(places, owner=store.studies.folder_mark), spec)


def own(name: str) -> tuple[str, ...]:
    return (f"train.entry=tests.worker.seeded_trainings:{name}", "train.epochs=2")


def test_before_a_confirmation_nothing_is_claimed(opened: Storage, tmp_path: Path) -> None:
    """The best value, that it is not confirmed, and how to confirm it."""
    place = searched(opened, tmp_path, *own("noisy"))

    assert verdict_of(opened, place.files, "tiny") is None
    document = verdict_document(opened, place.files, "tiny")

    assert (document["generalises_to"], document["pairs"], document["confirmation"]) == ("nothing", [], None)
    assert "Not confirmed" in document["text"]
    assert "`tuner confirm tiny`" in document["text"]
    assert document == unconfirmed(opened, "tiny") | {"confirmation": None}
    with pytest.raises(NotFoundError, match="no confirmation"):
        load_scores(opened, place.files, "tiny")


def test_seeds_are_paired_and_looks_are_spent(opened: Storage, tmp_path: Path) -> None:
    """More seeds add what is missing and are a further look; asked again with as many, nothing is done."""
    place = searched(opened, tmp_path, *own("noisy"))
    assert place.confirm(top=3, seeds=3)

    first = verdict_of(opened, place.files, "tiny")
    assert first is not None
    table = load_scores(opened, place.files, "tiny")
    assert table.runs == ("seed 1", "seed 2", "seed 3")
    for name, candidate in zip(table.names, table.configurations, strict=True):
        row = table.names.index(name)
        assert table.values[row, :, 0].tolist() == [value_of(str(candidate.loss), seed) for seed in (1, 2, 3)]
    assert first.pair("dice", "cross_entropy").verdict == "a_better"
    assert first.pair("dice", "dice_cross_entropy").verdict == "undecided"
    assert (first.look, first.alpha_of_look, first.generalises_to) == (1, 0.025, "new trainings")
    assert not place.confirm(seeds=3)
    numbers = {row["number"] for row in place.rows()}

    assert place.confirm(seeds=4)

    second = verdict_of(opened, place.files, "tiny")
    assert second is not None
    assert (second.look, second.alpha_of_look) == (2, 0.05 / 6)
    assert numbers < {row["number"] for row in place.rows()}
    assert len(place.rows()) == 4 * len(table.names)
    assert [c.seen_in_search for c in second.configurations if c.name == "dice"] == [value_of("dice", 0)]


def test_a_look_that_nobody_saw_is_replaced(opened: Storage, tmp_path: Path) -> None:
    """Interrupted before its runs were over, it spends nothing."""
    place = searched(opened, tmp_path, *own("noisy"))
    assert advance(opened, place.files, "tiny", ConfirmSection(top=2, baseline=None, seeds=3))
    assert verdict_of(opened, place.files, "tiny") is None

    assert place.confirm(seeds=4)

    assert [(look.look, look.runs) for look in opened.confirmations.looks("tiny")] == [(1, 4)]


def test_until_sure_drops_who_is_beaten_and_ends_when_all_is_decided(opened: Storage, tmp_path: Path) -> None:
    """Each of the planned looks spends the same; the verdict at the end speaks of all."""
    place = searched(opened, tmp_path, *own("noisy"))
    steps = 0
    while place.confirm(until="sure", seeds=6):
        steps += 1

    looks = opened.confirmations.looks("tiny")
    verdict = verdict_of(opened, place.files, "tiny")
    assert verdict is not None
    assert steps == len(looks) > 1
    assert [look.runs for look in looks] == [3, 5, 6][: len(looks)]
    assert {look.level for look in looks} == {0.05 / 3}
    assert {look.pairs for look in looks} == {3}
    assert "cross_entropy" in looks[0].configurations
    assert "cross_entropy" not in looks[1].configurations
    assert {c.name for c in verdict.configurations} == {"dice", "dice_cross_entropy", "cross_entropy"}
    assert verdict.pair(verdict.leader, "cross_entropy").verdict == "a_better"
    assert [c.runs for c in verdict.configurations if c.name == "cross_entropy"] == [3]
    with pytest.raises(ConflictError, match="spent"):
        place.confirm(seeds=9) and place.confirm(seeds=10)


def test_who_fails_gets_no_verdict(opened: Storage, tmp_path: Path) -> None:
    """The others do."""
    place = searched(opened, tmp_path, *own("failing_again"))
    assert place.confirm(seeds=4)

    verdict = verdict_of(opened, place.files, "tiny")

    assert verdict is not None
    assert verdict.pair("dice", "cross_entropy").reason == "failed_runs"
    assert verdict.pair("dice_cross_entropy", "cross_entropy").verdict == "a_better"
    assert [(c.runs, c.runs_failed) for c in verdict.configurations if c.name == "dice"] == [(3, 1)]


def test_runs_that_diverge_are_results(opened: Storage, tmp_path: Path) -> None:
    """Scored at their best validated epoch, else at the worst value."""
    place = searched(opened, tmp_path, *own("falling_apart"))
    assert place.confirm(seeds=3)

    table = load_scores(opened, place.files, "tiny")

    row = {name: table.names.index(name) for name in table.names}
    assert table.collapsed[row["dice"]].tolist() == [True, False, False]
    assert table.values[row["dice"], 0, 0] == 0.1
    assert table.collapsed[row["cross_entropy"]].tolist() == [False, True, False]
    assert table.values[row["cross_entropy"], 1, 0] == 0.0
    assert not table.failed.any()


def test_another_confirmation_is_refused(opened: Storage, tmp_path: Path) -> None:
    """Whoever chooses what is judged after he has seen results finds what is not there."""
    place = searched(opened, tmp_path, *own("noisy"))
    assert place.confirm(top=2, seeds=3)

    with pytest.raises(ConflictError, match=r"top: 2 stored, 3 asked for"):
        place.confirm(top=3)
    with pytest.raises(ConflictError, match=r"margin: None stored, 0.1 asked for"):
        place.confirm(margin=0.1)


def test_a_search_that_is_not_over(opened: Storage, tmp_path: Path) -> None:
    """Its finalists are not known; a stopped one has them."""
    place = searched(opened, tmp_path, *own("noisy"))
    opened.studies.raise_budget("tiny", 12)
    with pytest.raises(ConflictError, match="not over"):
        place.confirm()

    opened.studies.stop("tiny")
    assert place.confirm(top=1, seeds=1, baseline=None)

    assert opened.queries.status("tiny")["trials"]["waiting"] == 3


def test_scores_are_those_of_the_files(opened: Storage, tmp_path: Path) -> None:
    """Trainings of the product's own, validated as in the search: mean over the classes of each case."""
    place = searched(
        opened, tmp_path, "dataset.cases=8", "dataset.validation=0.75", "train.epochs=2", "budget.trials=3"
    )
    assert place.confirm(top=1, seeds=2)
    found = read_confirmation(opened, "tiny")
    assert found is not None

    table, of_liver = (load_scores(opened, place.files, "tiny", label=label) for label in (None, "liver"))
    distances = load_scores(opened, place.files, "tiny", metric="hd95")

    assert (len(table.cases), table.left_out, table.metric) == (6, {}, "dice")
    assert (distances.direction, of_liver.metric) == ("minimize", "dice of liver")
    for run, row in found.rows.items():
        lines = (place.places.artifacts / CHILD / str(row["number"]) / "cases.jsonl").read_text().splitlines()
        best = [line for line in map(json.loads, lines) if line["epoch"] == row["best_epoch"]]
        c = table.names.index(run.configuration)
        for line in best:
            k = table.cases.index(line["case"])
            values = [value for value in line["metrics"]["dice"].values() if value is not None]
            assert table.values[c, run.run - 1, k] == pytest.approx(np.mean(values))
            assert of_liver.values[c, run.run - 1, k] == line["metrics"]["dice"]["liver"]
        config = load_config(read_yaml(place.places.artifacts / CHILD / str(row["number"]) / "config.yaml").content)
        assert config.train.seed == row["params"]["run"]  # no trial of the search has used another seed than 0
    assert (
        "confirmation" not in export_trial(opened, "tiny", artifacts=place.files).provenance
    )  # two runs claim nothing


@pytest.mark.parametrize("section", [{"folds": 3}, {"on": "test"}], ids=["folds", "test"])
def test_cases_that_took_no_part_in_choosing_the_finalists(
    opened: Storage, tmp_path: Path, section: dict[str, Any]
) -> None:
    """Claims are about new cases then; with folds, the search's validation cases are left out."""
    place = searched(opened, tmp_path, "dataset.cases=9", "dataset.slices=2", "train.epochs=1", "budget.trials=3")
    assert place.confirm(top=1, seeds=3, **section)

    table = load_scores(opened, place.files, "tiny")
    verdict = verdict_of(opened, place.files, "tiny")

    chosen = json.loads((place.places.artifacts / CHILD / "0" / "search_cases.json").read_text())["cases"]
    tests = {"case": 9 - len(chosen)} if "folds" in section else {"case": 3}
    assert len(table.cases) == tests["case"]
    assert not set(chosen) & set(table.cases)
    assert verdict is not None
    assert verdict.generalises_to == ("new trainings and new cases" if len(table.cases) >= 6 else "nothing")


def test_export_takes_the_confirmed_leader_and_says_so(opened: Storage, tmp_path: Path) -> None:
    """The best trial of the search may not be the best configuration."""
    place = searched(opened, tmp_path, *own("noisy"))
    assert place.confirm(seeds=3)
    verdict = verdict_of(opened, place.files, "tiny")
    assert verdict is not None

    config = export_trial(opened, "tiny", artifacts=place.files)

    assert config.loss["name"] == verdict.configurations[0].loss
    assert config.provenance["confirmation"]["runs"] == 3
    assert verdict.leader in config.provenance["confirmation"]["text"]
    assert "confirmation" not in export_trial(opened, "tiny", number=0, artifacts=place.files).provenance

"""What people see: documents, lists, best and front, by SQL alone."""

import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from itertools import product
from typing import Any

import optuna
import pytest

from tests.conftest import REPOSITORY
from tests.storage.examples import claimed, completed, epoch, failed, new_study, point, pruned, run_all
from tuner.errors import ConflictError, NotFoundError, UnknownNameError
from tuner.storage.dashboard_queries import FigureQueries
from tuner.storage.states import Reason
from tuner.storage.storage import Storage
from tuner.storage.trial_queries import Order
from tuner.testing.storage import DICE_AND_HD95

STATUS = {"name", "phase", "phase_reason", "dataset", "model", "objectives", "trials", "best", "workers"}
TRIAL = {
    "number",
    "state",
    "value",
    "values",
    "params",
    "loss",
    "reason",
    "retry_of",
    "attempts",
    "epochs",
    "duration_s",
    "worker",
    "started",
    "finished",
}


@pytest.fixture
def busy(store: Storage) -> Storage:
    """Seven places: three complete, one pruned, one failed, one running again, one waiting."""
    fill(store)
    return store


@pytest.fixture(scope="module", params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def busy_for_all(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Storage]:
    """The same, made once for all tests that only read, once on each kind of storage."""
    if request.param == "postgres":
        url = request.getfixturevalue("postgres").new_database()
    else:
        url = f"sqlite:///{tmp_path_factory.mktemp('busy') / 'tuner.db'}"
    with Storage.open(url, create=True) as store:
        fill(store)
        yield store


def fill(store: Storage) -> None:
    study = store.studies.create(new_study(trials=7))
    run_all(store, study.study_id, [0.3, 0.5], "focal")
    run_all(store, study.study_id, [0.4], "dice")
    store.trials.finish(claimed(store, study.study_id), pruned())
    store.trials.finish(claimed(store, study.study_id, params=point("tversky")), failed())
    store.trials.finish(claimed(store, study.study_id), failed(Reason.INTERRUPTED, retry=True))
    again = claimed(store, study.study_id, "w2")
    store.epochs.report(again, epoch(1, 0.7))
    store.epochs.report(again, epoch(2, 0.6))


def numbers(rows: list[dict[str, Any]]) -> list[int]:
    return [row["number"] for row in rows]


def test_status_says_what_the_contract_says(busy_for_all: Storage) -> None:
    """Scripts read these fields, and the counts sum up to the budget."""
    document = busy_for_all.queries.status("organs")

    assert document.keys() >= STATUS
    assert document["trials"] == {
        "total": 7,
        "waiting": 1,
        "running": 1,
        "complete": 3,
        "pruned": 1,
        "failed": 1,
    }
    assert document["best"] == {"number": 1, "value": 0.5, "params": point("focal"), "loss": "focal"}
    assert (document["dataset"], document["model"], document["phase"]) == ("phantom", "unet", "stalled")
    assert document["objectives"] == [{"metric": "dice", "direction": "maximize"}]


def test_the_list_has_one_row_for_each_place(busy_for_all: Storage) -> None:
    """Earlier attempts are shown on demand only: they are not trials of the budget."""
    rows = busy_for_all.queries.trials("organs")

    assert all(row.keys() >= TRIAL for row in rows)
    assert numbers(rows) == [0, 1, 2, 3, 4, 6, 7]
    assert numbers(busy_for_all.queries.trials("organs", all_attempts=True)) == list(range(8))
    running = rows[-1]
    assert (running["state"], running["retry_of"], running["attempts"], running["worker"]) == ("RUNNING", 5, 2, "w2")
    assert (running["epochs"], running["last_value"], running["best_value"]) == (2, 0.6, 0.7)
    assert running["started"].endswith("Z")
    assert running["finished"] is None
    assert running["duration_s"] >= 0
    assert (rows[4]["reason"], rows[4]["message"]) == ("error", "a message")


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        pytest.param({"state": "COMPLETE"}, [0, 1, 2], id="state"),
        pytest.param({"loss": "focal"}, [0, 1, 3, 7], id="loss"),
        pytest.param({"loss": "focal", "state": "RUNNING"}, [7], id="both"),
        pytest.param({"sort": "value", "order": "desc"}, [1, 2, 0, 3, 4, 6, 7], id="value"),
        pytest.param({"sort": "value"}, [0, 2, 1, 3, 4, 6, 7], id="value-asc"),
        pytest.param({"sort": "number", "order": "desc", "limit": 2, "offset": 1}, [6, 4], id="page"),
        pytest.param({"by": "hd95", "state": "COMPLETE"}, [0, 2, 1], id="by-hd95"),
        pytest.param({"by": "dice", "limit": 2}, [1, 2], id="by-dice"),
        pytest.param({"by": "assd", "state": "COMPLETE"}, [0, 1, 2], id="by-what-was-not-measured"),
    ],
)
def test_filters_sorting_and_pages(busy_for_all: Storage, query: dict[str, Any], expected: list[int]) -> None:
    """The dashboard never loads what it does not show."""
    assert numbers(busy_for_all.queries.trials("organs", **query)) == expected


@pytest.mark.parametrize("sort", ["number", "state", "value", "loss", "reason", "duration_s", "started", "finished"])
def test_every_sort_keeps_every_row(busy_for_all: Storage, sort: str) -> None:
    """Rows without the value that is sorted by come last, they do not vanish."""
    for order in ("asc", "desc"):
        page = busy_for_all.queries.page("organs", sort=sort, order=order, limit=3)

        assert page["total"] == 7
        assert len(page["items"]) == 3
        assert sorted(numbers(busy_for_all.queries.trials("organs", sort=sort, order=order))) == [0, 1, 2, 3, 4, 6, 7]


@pytest.mark.parametrize(
    "query",
    [{"state": "DONE"}, {"sort": "colour"}, {"order": "up"}, {"by": "beauty"}],
    ids=["state", "sort", "order", "metric"],
)
def test_unknown_words_are_refused(busy_for_all: Storage, query: dict[str, Any]) -> None:
    """A misspelt filter must not look like an empty study."""
    with pytest.raises(UnknownNameError):
        busy_for_all.queries.trials("organs", **query)


@pytest.mark.parametrize("order", ["asc", "desc"])
@pytest.mark.parametrize("state", [None, "COMPLETE", "WAITING"], ids=str)
def test_pages_by_value_are_parts_of_the_whole_list(busy_for_all: Storage, order: Order, state: str | None) -> None:
    """Trials with a value and those without come from two queries; none may be lost or doubled where they meet."""
    whole = numbers(busy_for_all.queries.trials("organs", sort="value", order=order, state=state))

    for limit, offset in product((1, 2, 5), range(8)):
        found = busy_for_all.queries.page("organs", sort="value", order=order, state=state, limit=limit, offset=offset)
        assert numbers(found["items"]) == whole[offset : offset + limit]
        assert found["total"] == len(whole)


def test_counting_agrees_with_optuna(busy_for_all: Storage) -> None:
    """Counts read our rows where those say it all; the state of a trial stands in Optuna's."""
    study = busy_for_all.studies.get("organs")
    reading = FigureQueries(busy_for_all)
    by_loss: Counter[tuple[str | None, str]] = Counter()
    for row in reading.states_by_loss(study):
        by_loss[row.branch, row.state] += row.many
    listed = Counter((trial["loss"], trial["state"]) for trial in busy_for_all.queries.trials("organs"))
    ended = Counter(
        (trial["state"], trial["reason"])
        for trial in busy_for_all.queries.trials("organs", all_attempts=True)
        if trial["reason"]
    )

    assert by_loss == listed
    assert {(row["state"], row["reason"]): row["count"] for row in reading.failures(study)} == ended


def test_readings_at_once_see_one_moment(busy: Storage) -> None:
    """A page whose parts come from different moments contradicts itself."""
    before = busy.queries.status("organs")["trials"]

    def read() -> list[dict[str, int]]:
        first = busy.queries.status("organs")["trials"]
        thread = threading.Thread(target=busy.studies.raise_budget, args=("organs", before["total"] + 1))
        thread.start()
        thread.join()
        return [first, busy.queries.status("organs")["trials"]]

    assert busy.read_snapshot(read) == [before, before]
    assert busy.queries.status("organs")["trials"]["total"] == before["total"] + 1


def test_ranking_by_another_metric_reads_the_best_epoch(store: Storage) -> None:
    """The metric belongs to the weights that were kept, not to the epoch that was luckiest in it."""
    study = store.studies.create(new_study(trials=1))
    claim = claimed(store, study.study_id)
    for number, (dice, hd95) in enumerate([(0.4, 1.0), (0.8, 5.0), (0.6, 2.0)], start=1):
        store.epochs.report(claim, epoch(number, dice, hd95))
    store.trials.finish(claim, completed(0.8, last=(3, 0.6)))

    (row,) = store.queries.trials("organs", by="hd95")

    assert (row["hd95"], row["best_epoch"], row["epochs"]) == (5.0, 2, 3)


def test_one_trial_and_its_curve(busy_for_all: Storage) -> None:
    """A number names an attempt, earlier ones too."""
    assert busy_for_all.queries.trial("organs", 5)["reason"] == "interrupted"
    assert [row["epoch"] for row in busy_for_all.queries.epochs("organs", 7)] == [1, 2]
    with pytest.raises(NotFoundError, match="no trial 99"):
        busy_for_all.queries.trial("organs", 99)
    with pytest.raises(NotFoundError, match="no trial 99"):
        busy_for_all.queries.epochs("organs", 99)


def test_best_of_several_objectives_is_on_the_front(store: Storage) -> None:
    """The Pareto point that is best in the first objective, and all the others beside it."""
    study = store.studies.create(new_study(trials=5, objectives=DICE_AND_HD95))
    assert store.queries.best("organs") is None
    for values in [(0.5, 9.0), (0.8, 7.0), (0.8, 5.0), (0.6, 2.0), (0.4, 3.0)]:
        store.trials.finish(claimed(store, study.study_id), completed(*values))

    best = store.queries.best("organs")

    assert best is not None
    assert (best["number"], best["values"]) == (2, [0.8, 5.0])
    assert [(p["number"], p["values"]) for p in best["front"]] == [(2, [0.8, 5.0]), (3, [0.6, 2.0])]


def test_revision_changes_with_every_write_but_a_life_sign(store: Storage) -> None:
    """An ETag that stays while something changed shows stale pages for ever."""
    study = store.studies.create(new_study(trials=3))
    worker = store.workers.register(pid=1, device="cpu", study="organs", version="1", host="elsewhere")
    seen = [store.queries.revision("organs")]

    def look() -> None:
        seen.append(store.queries.revision("organs"))

    claim = store.trials.claim(study.study_id, worker)
    assert claim is not None
    look()
    store.trials.set_params(claim, point(), study.space)
    look()
    store.epochs.report(claim, epoch(1))
    look()
    store.studies.prune_manually("organs", claim.number)
    look()
    store.trials.finish(claim, completed(0.5))
    look()
    store.studies.enqueue("organs", point())
    look()
    store.studies.raise_budget("organs", 5)
    look()
    store.studies.pause("organs")
    look()

    assert len(set(seen)) == len(seen)
    store.workers.heartbeat(worker, progress={"epoch": 1})
    assert store.queries.revision("organs") == seen[-1]


def test_foreign_studies_are_shown_and_left_alone(store: Storage) -> None:
    """A lab may keep other Optuna studies in the same database."""
    storage = optuna.storages.RDBStorage(store.context.database.url.render_as_string(hide_password=False))
    foreign = optuna.create_study(study_name="their study!", storage=storage, directions=["minimize", "maximize"])
    foreign.add_trial(optuna.trial.create_trial(values=[1.0, 2.0]))
    store.studies.create(new_study())

    theirs, ours = store.queries.studies()

    assert (theirs["name"], theirs["foreign"], theirs["phase"]) == ("their study!", True, "done")
    assert theirs["trials"] == {"total": 1, "waiting": 0, "running": 0, "complete": 1, "pruned": 0, "failed": 0}
    assert [o["direction"] for o in theirs["objectives"]] == ["minimize", "maximize"]
    assert (ours["name"], ours["foreign"]) == ("organs", False)
    for write in (store.studies.pause, store.studies.delete, lambda name: store.studies.raise_budget(name, 9)):
        with pytest.raises(ConflictError, match="another program"):
            write("their study!")
    storage.remove_session()
    storage.engine.dispose()


def test_reading_imports_neither_optuna_nor_torch(busy_for_all: Storage) -> None:
    """Optuna alone takes a second: `tuner status` must not pay for it."""
    program = (
        "import sys; from tuner.storage.storage import Storage; s = Storage.open(sys.argv[1], read_only=True);"
        "q = s.queries; q.status('organs'); q.trials('organs', by='hd95'); q.best('organs'); q.studies();"
        "s.workers.live(); q.epochs('organs', 1); q.revision('organs'); s.epochs.history(1); s.close();"
        "print([m for m in ('optuna', 'torch', 'alembic', 'monai', 'numpy') if m in sys.modules])"
    )
    url = busy_for_all.context.database.url.render_as_string(hide_password=False)
    found = subprocess.run([sys.executable, "-c", program, url], cwd=REPOSITORY, capture_output=True, text=True)

    assert (found.stdout, found.stderr) == ("[]\n", "")

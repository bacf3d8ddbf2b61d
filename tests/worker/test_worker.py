"""One worker, in this process: how trials end, and what the study is told about it."""

import json
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

import optuna
import pytest

from tests.storage.examples import failed, pruned
from tests.worker.studies import create, entry, settings, tiny, work
from tuner.storage.storage import Storage
from tuner.worker.health import DeviceQuarantinedError
from tuner.worker.worker import Worker


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'tuner.db'}"


def run(folder: Path, url: str, *overrides: str) -> Storage:
    with Storage.open(url, create=True) as store:
        create(store, tiny(*overrides))
        work(store, settings(folder, url))
        return store


def test_a_real_study_ends_with_its_budget_and_its_artifacts(tmp_path: Path, url: str) -> None:
    """The main job in small: real data, real training, real files, and Optuna can read it."""
    store = run(tmp_path, url)

    status = store.queries.status("tiny")
    trials = store.queries.trials("tiny")
    folder = tmp_path / "artifacts" / "tiny" / str(status["best"]["number"])
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert status["phase"] == "done"
    assert status["trials"]["complete"] == status["trials"]["total"] == 4
    assert [t["epochs"] for t in trials] == [3, 3, 3, 3]
    assert status["best"]["value"] == max(line["metrics"]["dice"] for line in lines)
    assert {"config.yaml", "best.safetensors", "predictions.npz", "predictions.png"} <= {
        f.name for f in folder.iterdir()
    }
    assert not (folder / "last.ckpt").exists()
    study = optuna.load_study(study_name="tiny", storage=url)
    assert study.best_value == status["best"]["value"]
    assert study.best_params == status["best"]["params"]


def test_the_value_is_the_best_epoch_and_further_objectives_are_read_there(tmp_path: Path, url: str) -> None:
    """A trial's values belong to one set of weights."""
    store = run(tmp_path, url, entry("peaking"), "objectives=[{metric: dice}, {metric: hd95}]")

    assert {tuple(t["values"]) for t in store.queries.trials("tiny")} == {(0.9, 2.0)}


def test_a_loss_that_is_no_number_is_pruned_as_diverged(tmp_path: Path, url: str) -> None:
    """The parameters are to blame: the sampler learns it as infeasible, and the reason is shown."""
    store = run(tmp_path, url, entry("diverging"))

    trials = store.queries.trials("tiny")
    assert {(t["state"], t["reason"]) for t in trials} == {("PRUNED", "diverged")}
    assert "train_loss is nan" in trials[0]["message"]
    frozen = optuna.load_study(study_name="tiny", storage=url).trials[0]
    assert frozen.constraints == {"memory": -1.0, "finite": 1.0}
    assert frozen.intermediate_values == {}


def test_one_class_only_for_several_validations_is_pruned_as_collapsed(tmp_path: Path, url: str) -> None:
    """A network that has given up never comes back; its device is freed."""
    store = run(tmp_path, url, entry("collapsing"), "train.epochs=50", "budget.trials=1")

    (trial,) = store.queries.trials("tiny")
    assert (trial["state"], trial["reason"], trial["epochs"]) == ("PRUNED", "collapsed", 6)


def test_a_study_whose_trials_all_fail_alike_stops_itself(tmp_path: Path, url: str) -> None:
    """Bad data must not burn the budget."""
    store = run(tmp_path, url, entry("failing"), "budget.trials=40")

    status = store.queries.status("tiny")
    assert (status["phase"], status["phase_reason"]) == ("stopped", "failures")
    assert status["trials"]["failed"] == 5
    assert "broken" in status["message"]


def test_out_of_memory_alone_on_the_device_is_the_parameters_fault(tmp_path: Path, url: str) -> None:
    """Repeating it would fill the memory again; the sampler is told instead."""
    store = run(tmp_path, url, entry("memory"), "budget.trials=1")

    (trial,) = store.queries.trials("tiny")
    frozen = optuna.load_study(study_name="tiny", storage=url).trials[0]
    assert (trial["state"], trial["reason"]) == ("PRUNED", "out_of_memory")
    assert frozen.constraints == {"memory": 1.0, "finite": -1.0}


def test_a_trial_past_its_timeout_fails_and_is_not_repeated(tmp_path: Path, url: str) -> None:
    """`budget.trial_timeout` bounds what one point may cost."""
    store = run(tmp_path, url, entry("endless"), "train.epochs=1000", "budget={trials: 1, trial_timeout: 0.5}")

    (trial,) = store.queries.trials("tiny")
    assert (trial["state"], trial["reason"], trial["attempts"]) == ("FAIL", "timeout", 1)


def test_a_worker_that_is_told_to_stop_gives_its_trial_back(tmp_path: Path, url: str) -> None:
    """A drained worker loses nothing: the trial waits again, with what it had."""
    store = Storage.open(url, create=True)
    create(store, tiny("train.epochs=200", "budget.trials=2"))
    stop = threading.Event()
    worker = threading.Thread(target=work, args=(store, settings(tmp_path, url)), kwargs={"stop": stop})
    worker.start()
    while not any(t["epochs"] >= 2 for t in store.queries.trials("tiny")):
        stop.wait(0.05)

    stop.set()
    worker.join(30)

    counts = store.queries.status("tiny")["trials"]
    assert (counts["waiting"], counts["running"], counts["failed"]) == (2, 0, 0)
    assert store.queries.trials("tiny", all_attempts=True)[0]["reason"] == "interrupted"


def test_a_code_that_is_not_allowed_here_fails_with_the_line_that_allows_it(tmp_path: Path, url: str) -> None:
    """`entry` is imported only from packages that the machine's owner named."""
    store = Storage.open(url, create=True)
    create(store, tiny("train.entry=os:system", "budget.trials=1"))

    work(store, settings(tmp_path, url))

    (trial,) = store.queries.trials("tiny")
    assert (trial["state"], trial["reason"]) == ("FAIL", "error")
    assert "TUNER_ALLOW_ENTRY=os" in trial["message"]


def test_the_same_study_seed_and_one_worker_give_the_same_trials(tmp_path: Path) -> None:
    """A search can be repeated."""
    points = []
    for name in ("a", "b"):
        store = run(
            tmp_path / name, f"sqlite:///{_made(tmp_path / name)}/tuner.db", entry("steady"), "budget.trials=15"
        )
        points.append([(t["params"], t["value"], t["state"]) for t in store.queries.trials("tiny")])

    assert points[0] == points[1]


def test_hopeless_trials_are_pruned_with_a_reason(tmp_path: Path, url: str) -> None:
    """Most of the budget's time goes to trials that have a chance."""
    store = run(
        tmp_path, url, entry("steady"), "train.epochs=12", "budget.trials=30", "sampler=random", "pruner=median"
    )

    pruned = [t for t in store.queries.trials("tiny") if t["state"] == "PRUNED"]
    assert pruned
    assert {t["reason"] for t in pruned} == {"pruned"}
    assert all("median" in t["message"] and 4 <= t["epochs"] < 12 for t in pruned)


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True)
    return folder


def test_the_first_worker_stores_which_data_it_found(tmp_path: Path, url: str) -> None:
    """A study that was posted has met no data; without its fingerprint the dashboard finds no truth to show."""
    with Storage.open(url, create=True) as store:
        create(store, tiny("train.precision=auto", "budget.trials=1"))
        assert "fingerprint" not in store.studies.get("tiny").resources
        work(store, settings(tmp_path, url))
        resources = store.studies.get("tiny").resources
        store.studies.add_resources(store.studies.get("tiny").study_id, {"fingerprint": "another"})

        assert (tmp_path / "cache" / f"phantom-{resources['fingerprint'][:16]}").is_dir()
        assert resources["protocol"]
        assert store.studies.get("tiny").resources == resources
        environment = json.loads((tmp_path / "artifacts" / "tiny" / "0" / "environment.json").read_text())
        assert environment["precision"] in ("float32", "bfloat16")


def test_memory_is_told_without_asking_for_torch() -> None:
    """A heartbeat must not cost the seconds that importing torch takes."""
    code = "import sys, tuner.worker.worker as w; print(w.memory_used('cuda:0')['rss_mib'], 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    mib, has_torch = done.stdout.split()
    assert 10 < int(mib) < 4000
    assert has_torch == "False"


def test_a_worker_for_any_study_takes_over_what_a_dead_one_held(tmp_path: Path, url: str) -> None:
    """The last trial of a study, held by a worker that was killed, waits nowhere: standing workers must look for it."""
    with Storage.open(url, create=True) as store:
        create(store, tiny(entry("steady"), "budget.trials=1"))
        with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as colleague:
            dead = store.workers.register(pid=colleague.pid, device="cpu", study=None, version="test")
            assert store.trials.claim(store.studies.get("tiny").study_id, dead) is not None

        Worker(store, settings(tmp_path, url), study=None, device="cpu", poll_s=0.05, idle_s=0.5).run()

        assert store.queries.status("tiny")["trials"]["complete"] == 1


def test_a_worker_whose_device_was_quarantined_ends_and_says_so(tmp_path: Path, url: str) -> None:
    """Its trials fail while those of another machine do not: it must not eat the budget, and the lab must see it."""
    with Storage.open(url, create=True) as store:
        create(store, tiny(entry("failing"), "budget.trials=8"))
        study_id = store.studies.get("tiny").study_id
        elsewhere = store.workers.register(
            host="elsewhere", pid=os.getpid(), device="cuda:0", study="tiny", version="t"
        )
        before = store.workers.register(pid=os.getpid(), device="cpu", study="tiny", version="t")
        for worker_id, outcome in ((before, failed()), (before, failed()), (elsewhere, pruned())):
            claim = store.trials.claim(study_id, worker_id)
            assert claim is not None
            assert store.trials.finish(claim, outcome)
        store.workers.unregister(before)

        worker = Worker(store, settings(tmp_path, url), study="tiny", device="cpu", poll_s=0.05)
        with pytest.raises(DeviceQuarantinedError, match=r"cpu of .* is quarantined: its last 3 trials \(0, 1, 3\)"):
            worker.run()

        counts = store.queries.status("tiny")["trials"]
        assert (counts["failed"], counts["pruned"], counts["waiting"]) == (3, 1, 4)
        (told,) = store.workers.quarantined("tiny")
        assert (told["host"], told["device"]) == (socket.gethostname(), "cpu")
        assert [w["host"] for w in store.workers.live("tiny")] == ["elsewhere"]

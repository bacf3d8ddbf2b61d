"""Reading commands: the documents of the contract, and the tables that people read."""

import csv
import io
import os
from pathlib import Path

from tests.cli.shell import Shell
from tuner.storage.storage import Storage

STATUS = {"name", "phase", "phase_reason", "dataset", "model", "objectives", "trials", "best", "workers"}
ROW = {
    "number", "state", "value", "values", "params", "loss", "reason", "retry_of", "attempts", "epochs", "duration_s",
    "worker", "started", "finished",
}  # fmt: skip


def test_status_has_the_fields_of_the_contract(searched: Shell) -> None:
    """The document that dashboards and scripts poll."""
    document = searched("status", "tiny", "--json").json()

    assert document.keys() >= STATUS
    assert document["phase"] == "done"
    assert document["phase_reason"] == "budget"
    assert document["dataset"] == "phantom"
    assert document["objectives"] == [{"metric": "dice", "direction": "maximize"}]
    counts = document["trials"]
    assert counts.pop("total") == sum(counts.values()) == 6
    assert document["best"].keys() >= {"number", "value", "params", "loss"}


def test_status_in_words(searched: Shell) -> None:
    """Phase, best, the losses against each other, and what to type next."""
    result = searched("status", "tiny")

    assert "tiny: done" in result.out
    assert "trials 6 of 6" in result.out
    for loss in ("cross_entropy", "dice", "dice_cross_entropy"):
        assert f"\n{loss} " in result.out
    assert "tuner export tiny" in result.err


def test_trials_have_the_fields_of_the_contract(searched: Shell) -> None:
    """One row for each place of the budget."""
    rows = searched("trials", "tiny", "--json").json()

    assert len(rows) == 6
    for row in rows:
        assert row.keys() >= ROW
        assert row["state"] in ("COMPLETE", "PRUNED")
        assert row["loss"] == row["params"]["loss"]
        assert row["attempts"] == 1


def test_trials_can_be_ranked_by_a_metric_that_was_no_objective(searched: Shell) -> None:
    """Every metric is stored, so no training is needed to look at a study the other way round."""
    rows = searched("trials", "tiny", "--by", "hd95", "--json").json()
    values = [row["hd95"] for row in rows if row["hd95"] is not None]

    assert values == sorted(values)
    assert "hd95" in searched("trials", "tiny", "--by", "hd95").out


def test_an_unknown_metric_is_refused(searched: Shell) -> None:
    """With the closest one."""
    result = searched("trials", "tiny", "--by", "dise")

    assert result.code == 2
    assert "Did you mean 'dice'?" in result.err


def test_trials_as_csv_carry_each_parameter_in_a_column(searched: Shell) -> None:
    """What a spreadsheet or pandas opens."""
    rows = list(csv.DictReader(io.StringIO(searched("trials", "tiny", "--csv").out)))

    assert len(rows) == 6
    assert float(rows[0]["value"]) > 0
    assert float(rows[0]["train.lr"]) > 0


def test_filters_narrow_the_rows(searched: Shell) -> None:
    """Asking for one loss must not show the others."""
    rows = searched("trials", "tiny", "--loss", "dice", "--state", "complete", "--json").json()

    assert {row["loss"] for row in rows} <= {"dice"}
    assert {row["state"] for row in rows} <= {"COMPLETE"}


def test_best_has_the_fields_of_the_contract(searched: Shell) -> None:
    """With the complete configuration, which trains as it is."""
    from tuner.config.trial import load_config

    document = searched("best", "tiny", "--json").json()

    assert document.keys() >= {"number", "value", "loss", "params", "config", "metrics"}
    assert load_config(document["config"]).loss["name"] == document["loss"]
    assert document["metrics"]["dice"] == document["value"]
    assert f"trial {document['number']}" in searched("best", "tiny").out


def test_studies_lists_foreign_ones_as_foreign(searched: Shell, here: Path) -> None:
    """Optuna's own studies in the same storage are shown, and known to be somebody else's."""
    import optuna

    optuna.create_study(study_name="theirs", storage=f"sqlite:///{here / 'tuner.db'}")
    documents = {document["name"]: document for document in searched("studies", "--json").json()}

    assert documents["theirs"]["foreign"] is True
    assert documents["tiny"]["foreign"] is False
    assert "foreign" in searched("studies").out
    assert searched("pause", "theirs").code == 2


def test_logs_of_a_trial_and_of_the_workers(searched: Shell, here: Path) -> None:
    """Where one looks first when something went wrong."""
    assert "epoch 3" in searched("logs", "tiny", "0").out
    assert "epoch 3" in searched("logs", "tiny", "0", "-f").out

    result = searched("logs", "tiny", "99")
    assert result.code == 2
    assert "has no trial 99" in result.err


def test_an_unknown_study_is_refused_by_every_reader(searched: Shell) -> None:
    """With exit code 2 and nothing on stdout."""
    for words in (["status"], ["trials"], ["best"], ["logs"], ["pause"], ["stop"], ["resume"], ["delete", "--yes"]):
        result = searched(words[0], "tinny", *words[1:])
        assert result.code == 2, words
        assert result.out == ""
        assert "tinny" in result.err


def test_reading_creates_no_storage(tuner: Shell, here: Path) -> None:
    """A typo in --storage must not leave an empty database behind."""
    result = tuner("status", "tiny", "--storage", f"sqlite:///{here / 'typo.db'}")

    assert result.code == 2
    assert list(here.iterdir()) == []


def test_a_study_without_a_complete_trial_has_no_best(tuner: Shell, study_file: Path) -> None:
    """Said in words, not as `null` where a document was promised."""
    assert tuner("launch", str(study_file), "--launcher", "none", "--devices", "cpu").code == 0
    result = tuner("best", "tiny", "--json")

    assert result.code == 2
    assert result.out == ""
    assert "no trial of 'tiny' is complete yet" in result.err


def test_status_says_who_does_what_where(searched: Shell, here: Path) -> None:
    """With eight workers on three machines: which of them holds the trial that hangs, and how far it is."""
    with Storage.open(f"sqlite:///{here / 'tuner.db'}") as store:
        store.studies.raise_budget("tiny", 7, [store.queries.trial("tiny", 0)["params"]])
        worker = store.workers.register(pid=os.getpid(), device="cuda:3", study=None, version="test", host="node-7")
        claim = store.trials.claim(store.studies.get("tiny").study_id, worker)
        assert claim is not None

    row = next(line for line in searched("status", "tiny").out.splitlines() if line.startswith(worker))

    loss = claim.params["loss"]
    assert row.split()[:7] == [worker, "node-7", str(os.getpid()), "cuda:3", str(claim.number), loss, "0"]


def test_status_says_what_is_quarantined_and_what_waits(searched: Shell, here: Path) -> None:
    """A broken card, or a full one, explains why a study is slow."""
    with Storage.open(f"sqlite:///{here / 'tuner.db'}") as store:
        broken, full = (
            store.workers.register(host=host, pid=os.getpid(), device="cuda:0", study="tiny", version="t")
            for host in ("node7", "node8")
        )
        store.workers.quarantine_device(broken, "tiny", "its last 3 trials (1, 2, 4) all failed")
        store.workers.heartbeat(full, progress={"rss_mib": 9, "waits": "waits for memory: cuda:0 has 1 MiB free"})
        out = searched("status", "tiny").out

    assert "Quarantined: cuda:0 of node7, " in out
    assert ": its last 3 trials (1, 2, 4) all failed\n" in out
    assert f"worker {full} waits for memory: cuda:0 has 1 MiB free\n" in out

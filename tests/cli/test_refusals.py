"""Wrong requests to launch, resume, export and train: exit code 2, one clear message, nothing half-made."""

from pathlib import Path

import pytest

from tests.cli.shell import STUDY, Shell

WRONG = [
    ("--set=search.loss=[dise]", "Did you mean 'dice'?"),
    ("--set=dataset.name=fantom", "Did you mean 'phantom'?"),
    ("--set=model.name=unett", "Did you mean 'unet'?"),
    ("--set=train.learning_rate=1", "train.learning_rate"),
    ("--set=objectives=[{metric: dise}]", "Did you mean 'dice'?"),
    ("--set=search.train.lr={low: 0.1, high: 0.01}", "upside down"),
    ("--set=search.loss.dice.smooth={low: -5, high: 1}", "below the limit"),
    ("--set=dataset.validation=1.5", "dataset.validation"),
    ("--set=train.lr", "KEY=VALUE"),
    ("--set=sampler=tpee", "Did you mean 'tpe'?"),
    ("--devices=gpu", "not a device"),
    ("--devices=cuda:7", "cuda:7"),
    ("--devices=auto,cpu", "stands alone"),
    ("--workers=0", "--workers"),
    ("--workers-per-device=many", "--workers-per-device"),
    ("--launcher=slurm", "unknown launcher 'slurm'"),
    ("--trials=0", "budget.trials"),
    ("--epochs=0", "train.epochs"),
    ("--timeout=soon", "not a duration"),
    ("--seed=-1", "seed"),
    ("--name=../escape", "name"),
    ("--storage=mysql://somewhere/db", "not supported"),
    ("--storage=sqlite:///nowhere/at/all/tuner.db", "does not exist"),
]


@pytest.mark.parametrize(("flag", "said"), WRONG, ids=[flag for flag, _ in WRONG])
def test_a_wrong_launch_is_refused_and_leaves_nothing(
    tuner: Shell, here: Path, study_file: Path, flag: str, said: str
) -> None:
    """What was wrong, what would be right, and not a file more than before."""
    result = tuner("launch", str(study_file), "--devices=cpu", flag)

    assert result.code == 2, result.err
    assert said in result.err
    assert result.out == ""
    assert "Traceback" not in result.err
    assert [path.name for path in here.iterdir()] == ["tiny.yaml"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["launch"], "neither was given"),
        (["launch", "tiny.yaml", "--dataset", "phantom"], "both were given"),
        (["launch", "missing.yaml"], "no file 'missing.yaml'"),
        (["launch", "phantom"], "--dataset phantom"),
        (["launch", "--dataset", "fantom"], "Did you mean 'phantom'?"),
        (["launch", "--dataset", "synapse"], "--dataset phantom"),
        (["launch", "--dataset", "synapse", "--data-root", "nowhere"], "synapse"),
        (["resume", "tiny"], "tuner.db"),
        (["train", "tiny.yaml"], "tuner launch"),
        (["train", "missing.yaml"], "no file"),
        (["export", "tiny", "-o", "best.yaml"], "tuner.db"),
        (["data", "describe", "phantom", "--set", "siz=3"], "Did you mean 'size'?"),
        (["data", "prepare", "phantom", "--raw", "."], "nothing to convert"),
        (["data", "prepare", "synapse", "--raw", "nowhere", "--data-root", "."], "not a folder"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_wrong_files_and_names(tuner: Shell, here: Path, study_file: Path, words: list[str], said: str) -> None:
    """Whatever is missing is named, with what would do."""
    result = tuner(*words)

    assert result.code == 2, result.err
    assert said in result.err
    assert result.out == ""
    assert [path.name for path in here.iterdir()] == ["tiny.yaml"]


def test_a_problem_in_a_file_is_named_with_its_line(tuner: Shell, here: Path) -> None:
    """All problems at once, each with key, value, limit and line."""
    (here / "bad.yaml").write_text(STUDY.replace("epochs: 3", "epochs: 0") + "sedd: 3\n", encoding="utf-8")

    result = tuner("launch", "bad.yaml")

    assert result.code == 2
    assert "bad.yaml" in result.err
    assert "line 4" in result.err
    assert "Did you mean 'seed'?" in result.err


@pytest.mark.parametrize(
    ("flag", "key"),
    [
        ("--epochs=9", "train.epochs: 3 stored, 9 asked for"),
        ("--seed=9", "seed: 0 stored, 9 asked for"),
        ("--set=search.loss=[dice]", "search.loss"),
        ("--set=budget.retries=9", "budget.retries: 3 stored, 9 asked for"),
        ("--set=train.threads=2", "train.threads: 1 stored, 2 asked for"),
        ("--trials=5", "budget.trials: 6 stored, 5 asked for"),
    ],
    ids=lambda value: value if value.startswith("--") else None,
)
@pytest.mark.parametrize("command", [["launch", "tiny.yaml"], ["resume", "tiny"]], ids=lambda words: words[0])
def test_a_study_that_exists_is_continued_as_it_was_made(
    searched: Shell, command: list[str], flag: str, key: str
) -> None:
    """Each difference with both values; trials of two specifications cannot be compared."""
    result = searched(*command, flag, "--devices=cpu")

    assert result.code == 2
    assert key in result.err
    assert searched("status", "tiny", "--json").json()["trials"]["total"] == 6


def test_what_does_not_matter_may_change(searched: Shell) -> None:
    """Resources are no part of what a trial is."""
    result = searched("launch", "tiny.yaml", "--workers=3", "--devices=cpu", "--timeout=5h", "--set=train.threads=null")

    assert result.code == 0, result.err


def test_broken_data_is_listed_before_anything_is_made(tuner: Shell, here: Path, test_data: Path) -> None:
    """A truncated file found in the third hour of a search is found two hours and 59 minutes too late."""
    import shutil

    root = here / "data" / "synapse"
    shutil.copytree(test_data / "synapse", root, symlinks=False, copy_function=shutil.copyfile)
    victim = next((root / "train_npz").glob("*.npz"))
    victim.write_bytes(victim.read_bytes()[:1000])

    result = tuner("launch", "--dataset", "synapse", "--data-root", "data", "--devices", "cpu")

    assert result.code == 2
    assert victim.name in result.err
    assert sorted(path.name for path in here.iterdir()) == ["data"]
    checked = tuner("data", "check", "synapse", "--data-root", "data")
    assert checked.code == 1
    assert victim.name in checked.out


def test_a_folder_that_cannot_hold_the_files(tuner: Shell, here: Path, study_file: Path) -> None:
    """The first trial must not be the one that finds out."""
    (here / "file").touch()

    result = tuner("launch", str(study_file), "--artifacts", "file/artifacts", "--devices", "cpu")

    assert result.code == 2
    assert "--artifacts" in result.err
    assert not (here / "tuner.db").exists()


def test_export_refuses_what_is_no_file(searched: Shell, here: Path) -> None:
    """A folder is never replaced; a missing one is named."""
    assert searched("export", "tiny", "-o", str(here)).code == 2
    assert searched("export", "tiny", "-o", "no/such/best.yaml").code == 2
    assert searched("export", "tiny", "-o", "best.yaml", "--format", "yml").code == 2
    assert searched("export", "tiny", "-o", "best.yaml", "--trial", "99").code == 2
    assert not (here / "best.yaml").exists()


def test_train_does_not_write_into_somebody_elses_folder(searched: Shell, here: Path) -> None:
    """A slip of -o must not bury files."""
    assert searched("export", "tiny", "-o", "best.yaml").code == 0
    (here / "mine").mkdir()
    (here / "mine" / "thesis.tex").touch()

    result = searched("train", "best.yaml", "-o", "mine")

    assert result.code == 2
    assert [path.name for path in (here / "mine").iterdir()] == ["thesis.tex"]

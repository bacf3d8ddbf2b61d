"""What `import tuner` offers, and what it costs."""

import subprocess
import sys
from pathlib import Path

import pytest

import tuner
from tests.worker.studies import tiny
from tuner.errors import NoSuccessError, NotFoundError


def test_the_public_names_are_these() -> None:
    """Scripts rely on them; one that goes must warn for one minor version first."""
    assert sorted(tuner.__all__) == [
        "Client",
        "Study",
        "TunerError",
        "__version__",
        "heartbeat",
        "load_study",
        "losses",
        "run_study",
    ]
    assert all(getattr(tuner, name) is not None for name in tuner.__all__)
    assert (Path(tuner.__file__).parent / "py.typed").exists()
    with pytest.raises(AttributeError, match="launchh"):
        _ = tuner.launchh  # type: ignore[attr-defined]


def test_importing_the_package_is_light() -> None:
    """`tuner --help` answers in half a second; nothing heavy comes before it is asked for."""
    code = (
        "import sys, tuner; "
        "heavy = {'torch', 'monai', 'optuna', 'sqlalchemy', 'pydantic', 'numpy'} & set(sys.modules); "
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_study_is_loaded_and_read(tmp_path: Path) -> None:
    """Notebooks read what the command line ran."""
    storage = f"sqlite:///{tmp_path / 'tuner.db'}"
    study = tuner.run_study(
        tiny().as_dict(), storage=storage, cache=tmp_path / "cache", devices="cpu", workers=1, launcher="none"
    )

    loaded = tuner.load_study("tiny", storage=storage)

    assert loaded.status()["trials"]["waiting"] == study.status()["trials"]["total"]
    assert {row["state"] for row in loaded.trials()} == {"WAITING"}
    with pytest.raises(NoSuccessError):
        loaded.best()
    with pytest.raises(NotFoundError):
        tuner.load_study("tinny", storage=storage)

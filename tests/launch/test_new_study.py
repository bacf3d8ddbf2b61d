"""A study is stored alike by whoever creates it."""

from pathlib import Path

from tests.worker.studies import tiny
from tuner import __version__
from tuner.launch.device_probe import ProbeResult
from tuner.launch.new_study import create_study, new_study
from tuner.storage.storage import Storage


def test_devices_settle_threads_and_precision_where_they_are_known(tmp_path: Path) -> None:
    """Without devices both stay open, for the first worker to settle; everything else is the same."""
    spec = tiny("train.threads=null", "train.precision=auto")
    machine = ProbeResult(("cpu",), threads=3, precision="bfloat16", sample_s=None)
    with Storage.open(f"sqlite:///{tmp_path / 'here.db'}", create=True) as store:
        here = create_study(store, spec, machine=machine, resources={"data_root": "/data"})
    with Storage.open(f"sqlite:///{tmp_path / 'elsewhere.db'}", create=True) as store:
        elsewhere = create_study(store, spec)

    assert (here.spec["train"]["threads"], here.spec["train"]["precision"]) == (3, "bfloat16")
    assert (elsewhere.spec["train"]["threads"], elsewhere.spec["train"]["precision"]) == (None, "auto")
    assert (here.resources, elsewhere.resources) == ({"data_root": "/data"}, {})
    assert here.spec["search"] == elsewhere.spec["search"]
    assert here.version == elsewhere.version == __version__
    assert (here.total, here.retries, here.timeout_s) == (spec.total, spec.budget.retries, spec.budget.timeout)
    assert new_study(spec, resources={}).queue == spec.queue()

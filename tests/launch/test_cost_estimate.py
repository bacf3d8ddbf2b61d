"""What a plan says, from measurements put in by hand."""

import pytest

from tuner.config.study import load_spec
from tuner.config.yaml_reader import YamlDocument
from tuner.launch.cost_estimate import Plan, estimate_costs
from tuner.launch.loss_profile import CUDA_CONTEXT, LossProfile, workers_that_fit
from tuner.launch.study_setup import DataFacts

GB = 10**9


def measured(
    loss: str, step_s: float | None = 0.1, memory: int | None = GB, free: int = 10 * GB, **more: object
) -> LossProfile:
    """Return what was measured of a loss."""
    fields: dict[str, object] = {
        "validation_s": None, "weights": 40_000_000, "checkpoint": 120_000_000, "out_of_memory": False, "problem": None,
    }  # fmt: skip
    return LossProfile(loss=loss, step_s=step_s, memory=memory, free=free, **(fields | more))  # type: ignore[arg-type]


def plan(*found: LossProfile, workers: int = 2, disk_free: int = 100 * GB, **budget: object) -> Plan:
    """Price a study of 20 epochs, 100 samples in batches of 10."""
    content = {
        "dataset": {"name": "phantom"},
        "train": {"epochs": 20, "batch_size": 10, "threads": 1},
        "search": {"loss": [m.loss for m in found], "train.lr": {"low": 1e-4, "high": 1e-2}},
        "pruner": {"name": "none"},
        "budget": {"trials": 30, **budget},
    }
    spec = load_spec(YamlDocument(content, {}, None))
    data = DataFacts("ab", "share", train=100, validation=10, shape=(1, 8, 8), classes=2)
    by_loss = {m.loss: m for m in found}
    return estimate_costs(spec, data, by_loss, workers=workers, device="cpu", cores=8, disk_free=disk_free)


def test_a_trial_is_its_epochs() -> None:
    """20 epochs of 10 steps of 0.1 s and a validation of 2 s are 60 s; 30 of them on two workers take 900 s."""
    found = plan(measured("dice", validation_s=2.0), measured("focal"))

    assert [p.trial_s for p in found.prices] == pytest.approx([60.0, 60.0])
    assert found.most_device_s == pytest.approx(1800.0)
    assert found.likely_device_s == pytest.approx(1800.0)
    assert found.wall_s == pytest.approx(900.0)
    assert found.disk == 30 * 40_000_000 + 2 * 2 * 120_000_000


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (
            plan(measured("dice"), measured("focal", None, problem="out of memory")),
            "focal could not be measured: out of",
        ),
        (plan(measured("dice"), measured("focal"), measured("lovasz_softmax", 1.0)), "lovasz_softmax (10.0×)"),
        (plan(measured("dice"), workers=16), "memory or cores are for 8 workers a device; 16"),
        (plan(measured("dice"), disk_free=GB), "1.0 GB are free"),
        (plan(measured("dice"), timeout="60s"), "budget.timeout (60 s) ends it first"),
        (plan(measured("dice"), trial_timeout="10s"), "longer than budget.trial_timeout with dice"),
        (plan(*map(measured, ["dice", "focal", "topk", "jaccard"]), trials=6), "2 losses get no trial"),
        (plan(measured("dice")), "a validation took longer"),
    ],
    ids=["problem", "slow", "workers", "disk", "timeout", "trial_timeout", "left_out", "validation"],
)
def test_what_is_doubtful_is_said(found: Plan, said: str) -> None:
    """Before the nights that it would cost to find out."""
    assert [text for text in found.warnings if said in text], found.warnings


@pytest.mark.parametrize(
    ("device", "free", "peaks", "threads", "fit"),
    [
        ("cpu", 10 * GB, (1 * GB, 2 * GB), 1, 4),
        ("cpu", 100 * GB, (1 * GB,), 2, 4),
        ("cpu", GB, (3 * GB,), 1, 1),
        ("cuda:0", 80 * GB, (10 * GB - CUDA_CONTEXT,), 1, 7),
    ],
    ids=["memory", "cores", "always one", "cuda"],
)
def test_the_largest_loss_says_how_many_workers_fit(
    device: str, free: int, peaks: tuple[int, ...], threads: int, fit: int
) -> None:
    """By nine tenths of the free memory; on the CPU no more than there are cores for."""
    found = [measured("dice", memory=peak, free=free) for peak in peaks]

    assert workers_that_fit(found, device=device, cores=8, threads=threads) == fit


def test_memory_that_nobody_counts_says_nothing() -> None:
    """MPS and systems without /proc: no number is better than a wrong one."""
    assert workers_that_fit([measured("dice", memory=None)], device="mps", cores=8, threads=1) is None

"""Schedules and optimisers against torch's own."""

import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingLR, LRScheduler, OneCycleLR, PolynomialLR

from tests.training.samples import make_config
from tuner.training.optimizer import ONE_CYCLE_START, Schedule, build_optimizer, effective_train, trained_parameters

STEPS = 40


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3)
        self.norm = nn.BatchNorm2d(4)


def torch_schedule(name: str, optimizer: torch.optim.Optimizer) -> LRScheduler:
    if name == "cosine":
        return CosineAnnealingLR(optimizer, STEPS)
    if name == "polynomial":
        return PolynomialLR(optimizer, STEPS, power=0.9)
    return OneCycleLR(optimizer, max_lr=0.1, total_steps=STEPS, pct_start=0.25, cycle_momentum=False)


@pytest.mark.parametrize(
    ("name", "warmup"), [("cosine", 0.0), ("polynomial", 0.0), ("one_cycle", 0.25)], ids=lambda v: str(v)
)
def test_learning_rates_are_those_of_torch(name: str, warmup: float) -> None:
    """A schedule by the same name must be the same curve, or results do not carry over."""
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.1)
    reference = torch_schedule(name, optimizer)
    schedule = Schedule(name, 0.1, warmup, STEPS)
    expected, found = [], []
    for step in range(STEPS):
        expected.append(optimizer.param_groups[0]["lr"])
        found.append(schedule.at(step))
        optimizer.step()
        reference.step()
    if name == "one_cycle":
        # torch's peak lies one step earlier: it counts the phases' steps from one
        assert found[0] == pytest.approx(0.1 / ONE_CYCLE_START)
        assert max(found) == pytest.approx(0.1)
        assert found == pytest.approx(expected, abs=0.012)
    else:
        assert found == pytest.approx(expected)


def test_warm_up_rises_to_the_peak() -> None:
    """The first step must not be with the full rate, nor with none."""
    schedule = Schedule("constant", 1.0, 0.25, 16)

    assert [schedule.at(step) for step in range(6)] == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]


def test_only_weights_decay() -> None:
    """Decaying norms and biases, or a loss's own parameters, trains something else than was asked for."""
    model, temperature = Net(), nn.Parameter(torch.ones(3, 3))
    optimizer = build_optimizer(model, [{"params": [temperature]}], make_config(weight_decay=0.1).train, "cpu")
    decays = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}

    assert decays[id(model.conv.weight)] == 0.1
    assert {decays[id(p)] for p in (model.conv.bias, model.norm.weight, model.norm.bias, temperature)} == {0.0}
    assert len(trained_parameters(optimizer)) == 5


@pytest.mark.parametrize("name", ["adamw", "sgd"])
def test_options_are_read_from_the_optimizer(name: str) -> None:
    """The check of the effective configuration is worth nothing when it reads the configuration itself."""
    train = make_config(optimizer=name, momentum=0.8, weight_decay=0.02, schedule="polynomial", warmup=0.1).train
    optimizer = build_optimizer(Net(), [], train, "cpu")
    found = effective_train(optimizer, Schedule(train.schedule, train.lr, train.warmup, 10))

    assert found == {f"train.{key}": getattr(train, key) for key in
                     ("optimizer", "lr", "momentum", "schedule", "warmup", "weight_decay")}  # fmt: skip
    optimizer.param_groups[0]["weight_decay"] = 0.5
    assert effective_train(optimizer, Schedule("cosine", 1.0, 0.0, 1))["train.weight_decay"] == 0.5


def test_what_a_loss_learns_has_its_own_rate() -> None:
    """Where a paper gives a rate, the schedule must scale it and not replace it."""
    groups = [{"params": [nn.Parameter(torch.ones(1))], "lr": 0.1}, {"params": [nn.Parameter(torch.ones(1))]}]
    optimizer = build_optimizer(Net(), groups, make_config(lr=0.01).train, "cpu")
    Schedule("cosine", 0.01, 0.0, 10).set_lr(optimizer, 5)

    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.005, 0.005, 0.05, 0.005])

"""Each loss, on its own, makes a small network better at what is measured."""

import torch
from torch import nn

from tests.losses.images import built
from tuner.losses.spec import LossSpec

STEPS = 40


def mean_dice(logits: torch.Tensor, target: torch.Tensor) -> float:
    """Hard Dice, mean over the classes."""
    prediction = logits.argmax(1)
    scores = []
    for c in range(logits.shape[1]):
        found, true = prediction == c, target == c
        scores.append(float(2 * (found & true).sum() / (found.sum() + true.sum()).clamp_min(1)))
    return sum(scores) / len(scores)


def test_trains_a_small_network(entry: LossSpec) -> None:
    """A loss that cannot lift Dice on an easy scene would waste every trial that draws it."""
    torch.manual_seed(0)
    target = torch.zeros(4, 16, 16, dtype=torch.int64)
    target[:, 3:12, 3:9] = 1
    target[:, 5:9, 10:14] = 2
    images = torch.stack([target == 1, target == 2], 1).float() + 0.3 * torch.randn(4, 2, 16, 16)
    network = nn.Sequential(nn.Conv2d(2, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 3, 3, padding=1))
    loss = built(entry)
    optimizer = torch.optim.Adam([*network.parameters(), *loss.parameters()], lr=0.03)
    before = mean_dice(network(images), target)

    for _ in range(STEPS):
        optimizer.zero_grad()
        loss(network(images), target).backward()
        optimizer.step()

    assert mean_dice(network(images), target) > max(before + 0.1, 0.6)

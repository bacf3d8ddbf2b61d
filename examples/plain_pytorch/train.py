"""A training as people have it: plain PyTorch, arguments, a checkpoint. It knows nothing of `tuner`.

What makes it fit for a search is what it prints: a JSON line after every epoch.
"""

import argparse
import json
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional

ACTIVATIONS = {"relu": nn.ReLU, "silu": nn.SiLU}


def make_cases(count, size, seed):
    """Return images [N, 1, H, W] with a bright disc in noise, and masks [N, H, W] of the discs."""
    generator = torch.Generator().manual_seed(seed)
    axis = torch.arange(size)
    centers = torch.randint(size // 4, 3 * size // 4, (count, 2), generator=generator)
    radii = torch.randint(size // 8, size // 4, (count,), generator=generator)
    squares = (axis[None, :, None] - centers[:, 0, None, None]) ** 2 + (
        axis[None, None] - centers[:, 1, None, None]
    ) ** 2
    masks = (squares < radii[:, None, None] ** 2).long()
    images = masks + 0.4 * torch.randn(count, size, size, generator=generator)
    return images[:, None], masks


def make_network(width, activation):
    """Return a small fully convolutional network for two classes."""
    act = ACTIVATIONS[activation]
    return nn.Sequential(
        nn.Conv2d(1, width, 5, padding=2),
        act(),
        nn.Conv2d(width, width, 5, padding=2),
        act(),
        nn.Conv2d(width, 2, 1),
    )


@torch.no_grad()
def dice_of_each(network, images, masks):
    """Return the Dice of every case."""
    predicted = network(images).argmax(1)
    hit = (predicted * masks).sum((1, 2))
    return (2 * hit / (predicted.sum((1, 2)) + masks.sum((1, 2))).clamp(min=1)).tolist()


def main():
    """Train, continuing from the checkpoint in the output folder where there is one."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lr", type=float, default=1e-2)
    parser.add_argument("--width", type=int, default=8)
    parser.add_argument("--activation", choices=ACTIVATIONS, default="relu")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()

    torch.manual_seed(given.seed)
    images, masks = (part.to(given.device) for part in make_cases(16, given.size, seed=1))
    held_out = make_cases(8, given.size, seed=2)
    network = make_network(given.width, given.activation).to(given.device)
    optimizer = torch.optim.AdamW(network.parameters(), lr=given.lr)
    checkpoint, first = given.out / "checkpoint.pt", 1
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        network.load_state_dict(state["network"])
        optimizer.load_state_dict(state["optimizer"])
        first = state["epoch"] + 1

    for epoch in range(first, given.epochs + 1):
        for batch in range(0, len(images), 4):
            loss = functional.cross_entropy(network(images[batch : batch + 4]), masks[batch : batch + 4])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        scores = dice_of_each(network, *(part.to(given.device) for part in held_out))
        state = {"network": network.state_dict(), "optimizer": optimizer.state_dict(), "epoch": epoch}
        torch.save(state, checkpoint.with_suffix(".part"))
        checkpoint.with_suffix(".part").replace(checkpoint)
        report = {
            "epoch": epoch,
            "dice": sum(scores) / len(scores),
            "train_loss": loss.item(),
            "cases": {f"disc{index}": {"dice": score} for index, score in enumerate(scores)},
        }
        print(json.dumps(report), flush=True)


if __name__ == "__main__":
    main()

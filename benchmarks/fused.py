"""Several configurations of a small network trained as one, by grouped convolutions, beside one after the other.

    python -m benchmarks.fused [--device cpu] [--threads 1] [--sizes 24,32,48,64]

The same U-Net (instance norm, each configuration its own weights and loss) as one of k groups: one launch where there
were k. Seconds of a step for one configuration: CPU time of the process on a CPU, wall time on a GPU; best of five
rounds. What is left out are data, augmentation and validation, which gain nothing, so this is the most that fusing can
bring.
"""

import argparse
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

CLASSES = 9
BATCH = 8
ROUNDS = 5
STEPS = 6


class GroupedUNet(nn.Module):
    """A U-Net of four levels for `groups` configurations: `[B, groups, H, W]` to `[B, groups * classes, H, W]`."""

    def __init__(self, width: int, groups: int) -> None:
        super().__init__()
        widths = [width, 2 * width, 4 * width]
        self.down = nn.ModuleList(
            _convolutions(before, after, groups) for before, after in zip([1, *widths[:-1]], widths, strict=True)
        )
        self.bottom = _convolutions(widths[-1], 8 * width, groups)
        self.up = nn.ModuleList(
            nn.ConvTranspose2d(2 * size * groups, size * groups, 2, 2, groups=groups) for size in reversed(widths)
        )
        self.after = nn.ModuleList(_convolutions(size, size, groups) for size in reversed(widths))
        self.out = nn.Conv2d(width * groups, CLASSES * groups, 1, groups=groups)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits."""
        kept = []
        for block in self.down:
            images = block(images)
            kept.append(images)
            images = functional.max_pool2d(images, 2)
        images = self.bottom(images)
        for up, block, skip in zip(self.up, self.after, reversed(kept), strict=True):
            images = block(up(images) + skip)
        return self.out(images)


def _convolutions(before: int, after: int, groups: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for size in (before, after):
        layers += [
            nn.Conv2d(size * groups, after * groups, 3, padding=1, groups=groups),
            nn.GroupNorm(after * groups, after * groups),
            nn.LeakyReLU(0.01, inplace=True),
        ]
    return nn.Sequential(*layers)


def seconds_of_step(groups: int, size: int, *, width: int, device: str) -> float:
    """Return seconds of a training step for one configuration of `groups` that are trained as one."""
    torch.manual_seed(0)
    network = GroupedUNet(width, groups).to(device)
    optimizer = torch.optim.AdamW(network.parameters(), 1e-3, fused=True)
    images = torch.randn(BATCH, 1, size, size, device=device).repeat(1, groups, 1, 1)
    labels = torch.randint(0, CLASSES, (BATCH, size, size), device=device)

    def step() -> None:
        logits = network(images).view(BATCH, groups, CLASSES, size, size)
        loss = torch.stack([functional.cross_entropy(logits[:, group], labels) for group in range(groups)]).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    clock: Callable[[], float] = time.process_time if device == "cpu" else time.perf_counter
    best = float("inf")
    for _ in range(ROUNDS + 1):
        began = clock()
        for _ in range(STEPS):
            step()
        if device != "cpu":
            torch.cuda.synchronize()
        best = min(best, clock() - began)
    return best / STEPS / groups


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--width", type=int, default=8)
    parser.add_argument("--sizes", default="24,32,48,64")
    parser.add_argument("--groups", default="2,4,8")
    words = parser.parse_args()
    torch.set_num_threads(words.threads)
    counts = [int(text) for text in words.groups.split(",")]
    print("| pixels | alone, ms a step | " + " | ".join(f"{count} as one" for count in counts) + " |")
    print("|---" * (len(counts) + 2) + "|")
    for size in (int(text) for text in words.sizes.split(",")):
        alone = seconds_of_step(1, size, width=words.width, device=words.device)
        gains = [alone / seconds_of_step(count, size, width=words.width, device=words.device) for count in counts]
        cells = " | ".join(f"{gain:.2f} × less" for gain in gains)
        print(f"| {size} | {1000 * alone:.1f} | {cells} |", flush=True)


if __name__ == "__main__":
    main()

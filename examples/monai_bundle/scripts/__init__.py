"""What the bundle has of its own: cases, a report for each validation, a checkpoint to continue from."""

import json
from pathlib import Path

import monai
import torch
from ignite.engine import Engine, Events


def make_cases(count, seed):
    """Return a data set of bright discs in noise: image [1, 32, 32] and label [1, 32, 32]."""
    rng = torch.Generator().manual_seed(seed)
    axis = torch.arange(32)
    cases = []
    for _ in range(count):
        row, column = torch.randint(8, 24, (2,), generator=rng)
        label = ((axis[:, None] - row) ** 2 + (axis[None] - column) ** 2 < 36).long()[None]
        cases.append({"image": label + 0.8 * torch.randn(1, 32, 32, generator=rng), "label": label})
    return monai.data.Dataset(cases)


class Report:
    """Prints a JSON line after each validation: the metric, and that of every case."""

    def attach(self, engine: Engine) -> None:
        """Have MONAI call it."""
        engine.add_event_handler(Events.COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        """Print; the evaluator's epoch is the trainer's."""
        scores = engine.state.metric_details["dice"].flatten().tolist()
        report = {
            "epoch": engine.state.epoch,
            "dice": engine.state.metrics["dice"],
            "cases": {f"disc{index}": {"dice": score} for index, score in enumerate(scores)},
        }
        print(json.dumps(report), flush=True)


class Resume:
    """Saves a checkpoint after each epoch, and loads it where there is one."""

    def __init__(self, folder, states) -> None:
        self.path = Path(folder) / "bundle.pt"
        self.states = states

    def attach(self, engine: Engine) -> None:
        """Have MONAI call it."""
        engine.add_event_handler(Events.STARTED, self.load)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self.save)

    def load(self, engine: Engine) -> None:
        """Continue behind the last epoch that was saved."""
        if self.path.exists():
            found = torch.load(self.path, weights_only=True)
            for name, part in self.states.items():
                part.load_state_dict(found[name])
            engine.state.epoch = found["epoch"]
            engine.state.iteration = found["epoch"] * engine.state.epoch_length

    def save(self, engine: Engine) -> None:
        """Save, in one step."""
        content = {name: part.state_dict() for name, part in self.states.items()}
        torch.save({**content, "epoch": engine.state.epoch}, self.path.with_suffix(".part"))
        self.path.with_suffix(".part").replace(self.path)

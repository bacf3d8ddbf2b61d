"""Everything that only a real device can show, in one call of under eight minutes: a JSON line for each finding.

    python -m benchmarks.device --device cuda:0 -o FOLDER          # on a machine with a GPU
    python -m benchmarks.device --device cpu --quick -o FOLDER     # the same paths in small, anywhere

Losses equal to the CPU's; every network one step and a validation; a step by precision, layout and augmentation, with
launches and waits, beside a step as MONAI's tutorials write it; trainings interrupted and resumed, which must be equal
bit for bit with `deterministic: true`; memory that runs out and is given back; the product itself with one, two and
four workers. Each part fails by itself and has its share of the time; what is left out for lack of it counts as failed.
`device.md` in the folder is the table of what was found, written anew after every part, and once more when the time is
over in whatever part that is. The exit code is 1 when something is not as it should.
"""

import argparse
import contextlib
import gc
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tests.losses.device_budgets import config_of
from tests.models.small import HERE, SMALL
from tests.training.samples import make_config, make_data
from tuner.atomic_io import write_file
from tuner.config.trial import load_config
from tuner.losses.build import build_loss
from tuner.losses.catalog.registry import LOSSES
from tuner.models.catalog import MODELS
from tuner.training.device import available_devices, device_name, free_memory, is_out_of_memory, resolve_precision
from tuner.training.loop import TrainingState, configure_torch
from tuner.training.repeatable import UnrepeatableError
from tuner.training.trainer import train

PARTS = {
    "environment": 0.05,
    "losses": 0.25,
    "models": 0.45,
    "step": 0.65,
    "resume": 0.75,
    "memory": 0.8,
    "launch": 1.0,
}
"""And the share of the time that is over when a part has to end."""
SECONDS = 450.0
"""For all parts together."""
GRACE_S = 15.0
"""After so much more the process ends, in whatever it is."""
FREQUENCIES = (0.7, 0.1, 0.1, 0.1)
NEVER: Callable[[], bool] = lambda: False  # noqa: E731 (a constant that is called)


class Check:
    """What is asked for, and what was found."""

    def __init__(self, device: str, folder: Path, *, quick: bool) -> None:
        self.device, self.folder, self.quick = device, folder, quick
        self.is_cuda = device.startswith("cuda")
        self.began = time.monotonic()
        self.bad: list[str] = []
        self.found: list[dict[str, Any]] = []
        self.asked: list[str] = []
        self.part = ""
        self._writing = threading.Lock()
        folder.mkdir(parents=True, exist_ok=True)
        self._lines = (folder / "device.jsonl").open("w", encoding="utf-8")

    def say(self, part: str, **found: Any) -> None:
        """Write a finding."""
        line = json.dumps({"part": part, **found}, default=str)
        print(line, flush=True)
        self.found.append(json.loads(line))
        self._lines.write(line + "\n")
        self._lines.flush()

    def expect(self, part: str, good: bool, **found: Any) -> None:
        """Say what was found, and remember it where it is not good."""
        self.say(part, good=good, **found)
        if not good:
            self.bad.append(f"{part}: {found}")

    def has_time(self, what: object) -> bool:
        """Tell whether the part that runs has time left; if not, say that `what` is left out."""
        if self.left_s() > 0:
            return True
        self.expect(self.part, False, why=f"no time left at {what}")
        return False

    def left_s(self) -> float:
        """Return the seconds that the part that runs has left."""
        return self.began + PARTS[self.part] * SECONDS - time.monotonic()

    def write_table(self) -> None:
        """Write what was found until now into `device.md`."""
        with self._writing:
            write_file(self.folder / "device.md", table(self.asked, list(self.found), list(self.bad)).encode())

    def end_in_time(self) -> None:
        """End this process when its time is over, whatever hangs: a kernel cannot be interrupted."""

        def end() -> None:
            self.bad.append(f"{self.part}: did not end in time")
            self.write_table()
            print(f"the time is over in `{self.part}`; see {self.folder / 'device.md'}", flush=True)
            os._exit(1)

        timer = threading.Timer(SECONDS + GRACE_S, end)
        timer.daemon = True
        timer.start()

    def wait(self) -> None:
        """Wait for the device."""
        if self.is_cuda:
            torch.cuda.synchronize(self.device)

    def median_s(self, work: Callable[[], object], *, least: int = 3, seconds: float = 1.0) -> float:
        """Return the median of the seconds that some work takes, after a first time that does not count."""
        work()
        self.wait()
        taken: list[float] = []
        until = time.monotonic() + (0.1 if self.quick else seconds)
        while len(taken) < least or (time.monotonic() < until and len(taken) < 60):
            began = time.perf_counter()
            work()
            self.wait()
            taken.append(time.perf_counter() - began)
        return statistics.median(taken)

    @contextlib.contextmanager
    def waits(self) -> Iterator[Counter[str]]:
        """Count what torch calls a synchronising operation, by line of ours."""
        found: Counter[str] = Counter()

        def note(message: object, *_: object, **__: object) -> None:
            if "synchronizing" in str(message):
                ours = [frame for frame in traceback.extract_stack() if "/tuner/" in frame.filename]
                found[f"{Path(ours[-1].filename).name}:{ours[-1].lineno}" if ours else "elsewhere"] += 1

        if not self.is_cuda:
            yield found
            return
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            warnings.showwarning = note  # type: ignore[assignment]
            torch.cuda.set_sync_debug_mode("warn")
            try:
                yield found
            finally:
                torch.cuda.set_sync_debug_mode("default")


def environment(check: Check) -> None:
    found: dict[str, Any] = {"torch": torch.__version__, "cuda": torch.version.cuda, "cores": os.cpu_count()}
    if check.is_cuda:
        card = torch.cuda.get_device_properties(check.device)
        found |= {"memory_gib": round(card.total_memory / 2**30, 1), "uuid": str(getattr(card, "uuid", None))}
    name, precision = device_name(check.device), resolve_precision(check.device)
    check.say("environment", name=name, precision=precision, devices=available_devices(), **found)


def losses(check: Check) -> None:
    side = 24 if check.quick else 64
    spaces = {2: (side, side), 3: (8, side // 2, side // 2)}
    # what learns first, for a minute of the host where there are few cores, comes last
    quick = [(name, dims) for dims in spaces for name in (*LOSSES, "sum") if name not in LEARNING]
    for name, dims in (*quick, *((name, dims) for name in LEARNING for dims in spaces)):
        if not check.has_time(f"{name}, {dims}-D"):
            return
        logits, labels, extra = scene(spaces[dims])
        there = {key: value.to(check.device) for key, value in extra.items()}
        here = value_and_slope(built(name), logits, labels, extra)
        loss = built(name).to(check.device)
        found = value_and_slope(loss, logits.to(check.device), labels.to(check.device), there)
        off = abs(found[0] - here[0]) / max(1e-6, abs(here[0]))
        slope = float((found[1] - here[1]).norm() / (here[1].norm() + 1e-12))
        leaf = logits.to(check.device).requires_grad_()
        with check.waits() as waits:
            loss(leaf, labels.to(check.device), there).backward()
        check.expect("losses", off < 1e-4 and slope < 2e-3, loss=name, dims=dims, off=off, slope=slope, waits=waits)


LEARNING = ("inverse_form",)


def built(name: str) -> Any:
    torch.manual_seed(0)
    loss = build_loss(config_of(name), classes=4, ignore_index=255, class_frequencies=FREQUENCIES)
    loss.on_epoch(2, 4)
    return loss


def scene(space: tuple[int, ...]) -> tuple[torch.Tensor, torch.Tensor, dict[str, torch.Tensor]]:
    generator = torch.Generator().manual_seed(0)
    labels = torch.zeros(2, *space, dtype=torch.long)
    for number in range(1, 4):
        cut = [slice(side * (number - 1) // 4, side * (number + 1) // 4) for side in space]
        labels[(slice(None), *cut)] = number
    labels[:, :1] = 255
    extra = {"features": torch.randn(2, 8, *space, generator=generator)}
    extra["classifier_weight"] = torch.randn(4, 8, generator=generator)
    return 2 * torch.randn(2, 4, *space, generator=generator), labels, extra


def value_and_slope(loss: Any, logits: Any, labels: Any, extra: dict[str, Any]) -> tuple[float, torch.Tensor]:
    leaf = logits.detach().clone().requires_grad_()
    value = loss(leaf, labels, {key: part for key, part in extra.items() if "features" in loss.needs})
    value.backward()
    return float(value.detach()), leaf.grad.detach().cpu()


def models(check: Check) -> None:
    for dims in (2, 3):
        size = 32 if check.quick or dims == 3 else 96
        data = make_data(Path(tempfile.mkdtemp()), size=size, volumes=dims == 3)
        for name in HERE:
            if dims not in MODELS[name].dims or (check.quick and name not in ("unet", "dynunet")):
                continue
            if not check.has_time(f"{name}, {dims}-D"):
                return
            section = make_config(batch_size=2, precision="auto").as_dict()
            model = {"name": name, **(SMALL[name] if check.quick else {})}
            config = load_config(section | {"model": model})
            configure_torch(config.train)
            with contextlib.closing(TrainingState(config, data, check.device)) as run:
                index, drawing = torch.arange(2), torch.Generator().manual_seed(0)
                value = float(run.step(index, drawing))
                step_s = check.median_s(lambda: run.step(index, drawing), least=2, seconds=0.5)  # noqa: B023
                found = run.validate(NEVER)
                precision, layout = run.trial.precision, str(run.trial.layout)
            dice = None if found is None else found.metrics["dice"]
            ms = round(1e3 * step_s, 2)
            kind = {"model": name, "dims": dims, "precision": precision, "layout": layout}
            check.expect("models", bool(np.isfinite(value)), **kind, ms=ms, loss=value, dice=dice)
            gc.collect()


STEPS: tuple[tuple[dict[str, Any], dict[str, Any]], ...] = (
    ({}, {}),
    ({}, {"augment": "none"}),
    ({}, {"precision": "float32"}),
    ({"norm": "instance"}, {}),
    ({}, {"deterministic": True}),
    ({}, {"patch": [64, 64]}),
)


def step(check: Check) -> None:
    """U-Net of width 32, 224 px, batches of 16."""
    size, batch, width, depth = (32, 4, 4, 2) if check.quick else (224, 16, 32, 4)
    data = make_data(Path(tempfile.mkdtemp()), size=size)
    for model, changes in STEPS:
        patch = {"patch": [16, 16]} if check.quick and "patch" in changes else {}
        options = {"batch_size": batch, "precision": "auto", "augment": "default"} | changes | patch
        config = make_config(model={"width": width, "depth": depth, "dropout": 0.0} | model, **options)
        configure_torch(config.train)
        for layout in ("chosen", "contiguous"):
            if not check.has_time((model, changes, layout)):
                return
            with contextlib.closing(TrainingState(config, data, check.device)) as run:
                if layout == "contiguous":
                    run.trial.layout = torch.contiguous_format
                    run.trial.model.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
                run.samples.begin(1)
                index, drawing = torch.arange(batch), torch.Generator().manual_seed(0)
                step_s = check.median_s(lambda: run.step(index, drawing), seconds=1.5)  # noqa: B023
                with check.waits() as waits:
                    run.step(index, drawing)
                found = {"ms": round(1e3 * step_s, 2), "images_s": round(batch / step_s, 1), "waits": waits}
                found |= kernels(check, lambda: run.step(index, drawing))  # noqa: B023
                check.say("step", model=model, train=changes, layout=layout, precision=run.trial.precision, **found)
            gc.collect()
    theirs = check.median_s(naive_step(check.device, data, batch), least=2)
    check.say("step", what="as MONAI's tutorials write it, with MONAI's U-Net", ms=round(1e3 * theirs, 2))


def kernels(check: Check, work: Callable[[], object]) -> dict[str, Any]:
    """Launches of a step, and the milliseconds for which the device works."""
    if not check.is_cuda:
        return {}
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as found:
        work()
        check.wait()
    events = found.events() or []
    launches = sum("LaunchKernel" in event.name for event in events)
    device_ms = sum(getattr(event, "self_device_time_total", 0) for event in events) / 1e3
    peak = torch.cuda.max_memory_reserved(check.device) / 2**30
    return {"launches": launches, "device_ms": round(device_ms, 2), "peak_gib": round(peak, 2)}


def naive_step(device: str, data: Any, batch: int) -> Callable[[], object]:
    from monai.losses import DiceCELoss
    from monai.networks.nets import UNet
    from monai.transforms import Compose, RandAffined, RandFlipd, RandGaussianNoised, RandScaleIntensityd

    network = UNet(2, 1, 3, (32, 64, 128, 256), (2, 2, 2), num_res_units=2).to(device)
    optimizer, loss = torch.optim.AdamW(network.parameters(), 3e-4), DiceCELoss(to_onehot_y=True, softmax=True)
    keys = ["image", "label"]
    modes = ["bilinear", "nearest"]
    change = Compose(
        [
            RandAffined(keys, prob=0.5, rotate_range=0.3, scale_range=0.1, mode=modes, padding_mode="zeros"),
            RandFlipd(keys, prob=0.5, spatial_axis=1),
            RandScaleIntensityd("image", 0.1, prob=0.5),
            RandGaussianNoised("image", prob=0.2, std=0.03),
        ]
    )

    def work() -> None:
        pairs = zip(data.train.images[:batch], data.train.labels[:batch], strict=True)
        items = [
            change({"image": torch.from_numpy(image.copy()), "label": torch.from_numpy(label[None].astype(np.float32))})
            for image, label in pairs
        ]
        images, labels = (torch.stack([torch.as_tensor(item[key]) for item in items]).to(device) for key in keys)
        optimizer.zero_grad()
        loss(network(images), labels).backward()
        optimizer.step()

    return work


def resume(check: Check) -> None:
    data = make_data(Path(tempfile.mkdtemp()), size=32 if check.quick else 64)
    for deterministic in (True, False):
        for loss in ("dice_cross_entropy", "lovasz_softmax", "boundary", "inverse_form"):
            if check.quick and loss == "inverse_form":
                continue
            if not check.has_time(loss):
                return
            config = make_config(loss=loss, deterministic=deterministic, precision="auto")
            try:
                whole, broken = curve(check, config, data), Path(tempfile.mkdtemp())
                curve(check, config, data, broken, until=1)
                again = curve(check, config, data, broken)
            except UnrepeatableError as refusal:
                check.expect("resume", deterministic, loss=loss, refused=str(refusal))
                continue
            off = max(abs(a - b) for a, b in zip(whole, again, strict=True))
            check.expect("resume", not (deterministic and off), loss=loss, deterministic=deterministic, off=off)
    configure_torch(make_config().train)


def curve(check: Check, config: Any, data: Any, folder: Path | None = None, until: int | None = None) -> list[float]:
    found = []
    reports = train(config, data=data, device=check.device, folder=folder or Path(tempfile.mkdtemp()), stop=NEVER)
    for report in reports:
        found.append(float(report.train_loss or 0.0))
        if report.epoch == until:
            break
    return found


def memory(check: Check) -> None:
    """A training that needs more than three GiB where there are no more, and the next one in the same process."""
    if not check.is_cuda:
        check.say("memory", skipped="needs CUDA")
        return
    gc.collect()
    free_memory(check.device)
    total = torch.cuda.mem_get_info(check.device)[1]
    torch.cuda.set_per_process_memory_fraction(min(0.9, 3 * 2**30 / total), check.device)
    try:
        data = make_data(Path(tempfile.mkdtemp()), size=512)
        large = make_config(model={"width": 64, "depth": 4}, batch_size=24)
        try:
            curve(check, large, data)
            check.expect("memory", False, why="it fitted")
        except Exception as error:
            check.expect("memory", is_out_of_memory(error), error=f"{type(error).__name__}: {str(error)[:120]}")
        held = torch.cuda.memory_reserved(check.device) >> 20
        check.expect("memory", held < 512, held_mib=held)
        small = make_data(Path(tempfile.mkdtemp()))
        check.expect("memory", bool(np.isfinite(curve(check, make_config(epochs=1), small)[0])), what="the next one")
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, check.device)


def launch(check: Check) -> None:
    """The product as a user starts it."""
    for workers in (1, 2) if check.quick else (1, 2, 4):
        if not check.has_time(f"{workers} workers"):
            return
        folder = Path(tempfile.mkdtemp())
        storage = ["--storage", f"sqlite:///{folder}/tuner.db"]
        trials, epochs, size = (2, 1, 32) if check.quick else (8, 4, 128)
        words = ["launch", "--dataset", "phantom", "--name", f"w{workers}", "--trials", str(trials)]
        words += ["--epochs", str(epochs), "--workers", str(workers), "--devices", check.device]
        words += ["--set", "pruner.name=none", "--set", f"dataset.size={size}", "--cache", str(check.folder / "cache")]
        began = time.perf_counter()
        done = tuner(*words, *storage, "--artifacts", str(folder / "runs"), timeout=max(1.0, check.left_s()))
        seconds = round(time.perf_counter() - began, 1)
        rows = tuner("trials", f"w{workers}", "--json", *storage, timeout=60)
        try:
            states = Counter(row["state"] for row in json.loads(rows.stdout))
        except ValueError:
            states = Counter({rows.stderr[-200:]: 1})
        good = done.returncode == 0 and set(states) == {"COMPLETE"}
        words_of = "" if good else done.stderr[-400:]
        check.expect("launch", good, workers=workers, seconds=seconds, states=dict(states), words=words_of)


def tuner(*words: str, timeout: float) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "tuner", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)


COLUMNS: dict[str, tuple[str, ...]] = {
    "environment": ("name", "torch", "cuda", "cores", "memory_gib", "precision"),
    "models": ("model", "dims", "precision", "layout", "ms", "dice"),
    "step": (
        "what",
        "model",
        "train",
        "layout",
        "precision",
        "ms",
        "images_s",
        "launches",
        "device_ms",
        "peak_gib",
        "waits",
    ),
    "resume": ("loss", "deterministic", "off", "refused"),
    "memory": ("what", "error", "held_mib", "skipped", "why"),
    "launch": ("workers", "seconds", "states"),
}
"""What the table says of the findings of a part."""


def table(asked: list[str], found: list[dict[str, Any]], bad: list[str]) -> str:
    """Return the findings as Markdown: how each part went, then the numbers of those that have some."""
    lines = ["| part | s | findings | as they should not be |", "|---|---|---|---|"]
    seconds = {of["of"]: of["seconds"] for of in found if of["part"] == "time"}
    for part in asked:
        rows = [of for of in found if of["part"] == part]
        wrong = sum(line.startswith(f"{part}:") for line in bad)
        lines.append(f"| {part} | {seconds.get(part, '-')} | {len(rows)} | {wrong} |")
    compared = [of for of in found if of["part"] == "losses" and "slope" in of]
    for part, columns in COLUMNS.items():
        rows = [of for of in found if of["part"] == part]
        used = [name for name in columns if any(name in of for of in rows)]
        if used:
            lines += ["", f"| {' | '.join(used)} |", "|" + "---|" * len(used)]
            lines += ["| " + " | ".join(cell(of.get(name)) for name in used) + " |" for of in rows]
    if compared:
        value, slope = (max(of[name] for of in compared) for name in ("off", "slope"))
        waiting = sorted({of["loss"] for of in compared if of["waits"]})
        lines += ["", f"{len(compared)} losses: value off by at most {value:.1e}, gradient by {slope:.1e}; "
                  f"waits: {', '.join(waiting) or 'none'}."]  # fmt: skip
    unfinished = [part for part in asked if part not in seconds]
    if unfinished:
        lines += ["", f"Not finished: {', '.join(unfinished)}."]
    lines += ["", *(f"- {line[:400]}" for line in bad)]
    if not bad and not unfinished:
        lines += ["Everything is as it should be."]
    return "\n".join(lines) + "\n"


def cell(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {item}" for key, item in value.items()) or "-"
    return "" if value is None else str(value).replace("|", "/").replace("\n", " ")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument("--quick", action="store_true", help="tiny sizes: does it run?")
    parser.add_argument("--parts", default=",".join(PARTS))
    parser.add_argument("-o", "--out", type=Path, required=True, help="folder of device.jsonl")
    args = parser.parse_args()
    check = Check(args.device, args.out, quick=args.quick)
    check.end_in_time()
    check.asked = args.parts.split(",")
    for name in check.asked:
        check.part = name
        began = time.monotonic()
        try:
            if check.has_time("its begin"):
                globals()[name](check)
        except Exception as error:
            traceback.print_exc()
            check.expect(name, False, why=f"{type(error).__name__}: {str(error)[:300]}")
        check.say("time", of=name, seconds=round(time.monotonic() - began, 1))
        check.write_table()
    print(f"\n{len(check.bad)} not as they should be after {time.monotonic() - check.began:.0f} s\n")
    print(table(check.asked, check.found, check.bad))
    sys.exit(bool(check.bad))


if __name__ == "__main__":
    main()

"""What preparing a data set of the published size costs: memory, time, and what a killed run leaves to be done.

    python -m benchmarks.preparing synapse --samples DIR [--cases 30] [--slices 100] [--keep DIR]
    python -m benchmarks.preparing cityscapes --samples DIR [--images 3475] [--size 256]

Volumes of 512 x 512 and pictures of 2048 x 1024 are made from the real samples (DIR holds `synapse_raw` and
`cityscapes`), a few of each, and linked until there are as many as were published. The commands and calls run in
processes of their own; each is killed once (SIGKILL) in the middle and called again. Said are the largest resident
memory of each process, its wall and CPU time, and how many finished cases the second call did again.
"""

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import nibabel
import numpy as np
from PIL import Image

from tuner.data.datasets.synapse import OFFICIAL_TEST, OFFICIAL_TRAIN

WIDTH, HEIGHT = 2048, 1024
CITIES = 18
TESTS = 500


@dataclass(frozen=True)
class Ran:
    """How a process ended, and what it took."""

    code: int
    seconds: float
    cpu: float
    memory: float
    lines: list[str]

    def told(self) -> str:
        """For a table."""
        return f"{self.memory:.2f} GiB, {self.seconds:.0f} s wall, {self.cpu:.0f} s CPU, exit {self.code}"


def run(words: list[str], environment: dict[str, str], *, kill_at: str | None = None) -> Ran:
    """Run a command to its end, or kill it when a line of its stderr begins with `kill_at`."""
    begin, lines = time.monotonic(), []
    with subprocess.Popen(words, stderr=subprocess.PIPE, env=os.environ | environment, text=True) as process:
        assert process.stderr is not None
        for line in process.stderr:
            lines.append(line.rstrip())
            if kill_at is not None and line.startswith(kill_at):
                process.send_signal(signal.SIGKILL)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    cpu = usage.ru_utime + usage.ru_stime
    return Ran(process.returncode, time.monotonic() - begin, cpu, usage.ru_maxrss / 2**20, lines)


def raw_download(samples: Path, folder: Path, cases: int, slices: int) -> None:
    """The challenge's layout, 512 x 512 by `slices`: three real scans, linked until there are `cases`."""
    names = [name.removeprefix("case") for name in (*OFFICIAL_TRAIN, *OFFICIAL_TEST)][:cases]
    for kind in ("img", "label"):
        (folder / kind).mkdir(parents=True)
        for place, name in enumerate(names):
            path = folder / kind / f"{kind}{name}.nii.gz"
            if place >= 3:
                path.symlink_to(folder / kind / f"{kind}{names[place % 3]}.nii.gz")
                continue
            scan = nibabel.load(samples / "synapse_raw" / kind / f"{kind}010{place + 1}.nii.gz")
            values = np.asarray(scan.dataobj).repeat(2, 0).repeat(2, 1)
            whole = np.concatenate([values] * -(-slices // values.shape[2]), 2)[:, :, :slices]
            nibabel.save(nibabel.Nifti1Image(whole, scan.affine @ np.diag([0.5, 0.5, 1, 1])), path)


def city_download(samples: Path, folder: Path, images: int) -> None:
    """Cityscapes' layout, 2048 x 1024: eight real pictures, linked until there are `images`, 500 of them to test on."""
    sources = sorted((samples / "cityscapes/leftImg8bit/train").rglob("*.png"))[::13][:8]
    made = folder.parent / "pictures"
    made.mkdir(parents=True)
    for place, source in enumerate(sources):
        label = Path(str(source).replace("leftImg8bit/", "gtFine/").replace("_leftImg8bit", "_gtFine_labelIds"))
        Image.open(source).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC).save(made / f"image{place}.png")
        Image.open(label).resize((WIDTH, HEIGHT), Image.Resampling.NEAREST).save(made / f"label{place}.png")
    tests = min(TESTS, images // 4)
    for number in range(images):
        half = "val" if number < tests else "train"
        city = f"city{number % CITIES:02d}"
        for kind, end, what in (("leftImg8bit", "leftImg8bit", "image"), ("gtFine", "gtFine_labelIds", "label")):
            place = folder / kind / half / city
            place.mkdir(parents=True, exist_ok=True)
            (place / f"{city}_{number:06d}_000019_{end}.png").symlink_to(made / f"{what}{number % len(sources)}.png")


def prepare_synapse(samples: Path, work: Path, cases: int, slices: int) -> None:
    """`tuner data prepare synapse`, killed when half of the cases are converted, and again; then the cache."""
    raw, root = work / "raw", work / "data"
    raw_download(samples, raw, cases, slices)
    words = [sys.executable, "-m", "tuner", "data", "prepare", "synapse", "--raw", str(raw), "--data-root", str(root)]
    first = run(words, {}, kill_at=f"{cases // 2} of {cases}")
    kept = written(root)
    print(f"synapse, {cases} volumes of 512 x 512 x {slices}: killed half-way: {first.told()}", flush=True)
    second = run(words, {})
    again = sum(written(root).get(path) != state for path, state in kept.items())
    print(f"synapse, called again: {second.told()}; {again} of {len(kept)} files written again", flush=True)
    prepare_cache({"name": "synapse", "size": 224}, root, work / "cache")


def prepare_cities(samples: Path, work: Path, images: int, size: int) -> None:
    """The cache that `launch` makes of Cityscapes' pictures."""
    city_download(samples, work / "data" / "cityscapes", images)
    prepare_cache({"name": "cityscapes", "size": size, "width": 2 * size}, work / "data", work / "cache")


def prepare_cache(section: dict[str, object], root: Path, cache: Path) -> None:
    """Prepare as `launch` does, killed at a half of the samples, and again."""
    code = (
        "import sys; from pathlib import Path; from tuner.data.preparation import prepare\n"
        "def told(what, done, total):\n"
        "    if done * 20 % total < 20 or done == total:\n"
        "        print(what, 100 * done // total, file=sys.stderr, flush=True)\n"
        f"root, cache = Path({str(root)!r}), Path({str(cache)!r})\n"
        f"data = prepare({section!r}, data_root=root, cache=cache, seed=0, on_progress=told)\n"
        "print(len(data.train.labels), len(data.validation.labels), file=sys.stderr)"
    )
    words = [sys.executable, "-c", code]
    first = run(words, {"OMP_NUM_THREADS": "1"}, kill_at="preparing 50")
    print(f"{section['name']}, cache, killed half-way: {first.told()}", flush=True)
    second = run(words, {"OMP_NUM_THREADS": "1"})
    begun = next((line for line in second.lines if line.startswith("preparing")), "nothing to prepare")
    print(f"{section['name']}, cache, called again: {second.told()}; went on at {begun} %; {second.lines[-1]} samples")
    whole = sum(path.stat().st_size for path in cache.rglob("*.npy")) / 2**30
    third = run(words, {"OMP_NUM_THREADS": "1"})
    print(f"{section['name']}, cache, {whole:.1f} GiB, opened: {third.told()}", flush=True)


def written(root: Path) -> dict[Path, int]:
    """Time of every converted file."""
    return {path: path.stat().st_mtime_ns for kind in ("*.npz", "*.npy.h5") for path in root.rglob(kind)}


@contextmanager
def workplace(keep: Path | None) -> Iterator[Path]:
    """A folder that is removed afterwards, or the one that was named."""
    if keep is not None:
        keep.mkdir(parents=True)
        yield keep
        return
    with tempfile.TemporaryDirectory(prefix="tuner-preparing-") as folder:
        yield Path(folder)


def main() -> None:
    """Prepare what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("dataset", choices=("synapse", "cityscapes"), nargs="?", default="synapse")
    parser.add_argument("--samples", type=Path, default=Path(__file__).resolve().parents[2] / "shared" / "data")
    parser.add_argument("--cases", type=int, default=30)
    parser.add_argument("--slices", type=int, default=100)
    parser.add_argument("--images", type=int, default=3475)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--keep", type=Path, default=None)
    chosen = parser.parse_args()
    with workplace(chosen.keep) as work:
        if chosen.dataset == "synapse":
            prepare_synapse(chosen.samples, work, chosen.cases, chosen.slices)
        else:
            prepare_cities(chosen.samples, work, chosen.images, chosen.size)


if __name__ == "__main__":
    main()

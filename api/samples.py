"""What the prepared data on this machine looks like: class frequencies and a few samples with their labels."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np

from api.config import Service
from api.prediction_service import drawn
from tuner.data.arrays import open_validation
from tuner.data.cache import MANIFEST, read_manifest
from tuner.data.catalogue import DATASETS
from tuner.data.entry import DatasetEntry
from tuner.errors import DataError, NotFoundError

CLASSES_BY_FILES = "The files decide which classes there are; what was prepared on this machine names its own."
SAMPLES = 6
MOST_FOLDERS = 6
_FOLDER = re.compile(r"([a-z0-9_]+)-([0-9a-f]{16})")


def dataset_view(service: Service, entry: DatasetEntry) -> list[dict[str, Any]]:
    """Return what was prepared of a data set, the newest first: fingerprint, sizes, frequencies, samples."""
    cache = service.config.settings.cache
    found = []
    folders = sorted(cache.glob(f"{entry.name}-*/{MANIFEST}"), key=lambda path: -path.stat().st_mtime)
    for path in folders[:MOST_FOLDERS]:
        match = _FOLDER.fullmatch(path.parent.name)
        if match is None or match[1] != entry.name:
            continue
        try:
            manifest = json.loads(path.read_bytes())
            _, labels = open_validation(path.parent, manifest)
            frequencies = [float(share) for share in manifest["class_frequencies"]]
            samples = {str(case): int(count) for case, count in manifest["samples"].items()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError, DataError):
            continue
        step = max(1, len(labels) // SAMPLES)
        found.append(
            {
                "folder": path.parent.name,
                "fingerprint": match[2],
                "cases": len(samples),
                "samples": sum(samples.values()),
                "validation": len(labels),
                "size": list(labels[0].shape) if len(labels) else [],
                "frequencies": list(zip(manifest.get("class_names") or entry.class_names, frequencies, strict=False)),
                "shown": [min(len(labels) - 1, step * i + step // 2) for i in range(min(SAMPLES, len(labels)))],
            }
        )
    return found


def sample_picture(service: Service, folder: str, index: int) -> bytes:
    """Return one validation sample with its labels as PNG. Raises NotFoundError."""
    match = _FOLDER.fullmatch(folder)
    missing = NotFoundError(f"there is no prepared sample {index} in {folder!r}.")
    if match is None or match[1] not in DATASETS:
        raise missing
    path: Path = service.config.settings.cache / folder
    manifest = read_manifest(path)
    if manifest is None:
        raise missing
    images, labels = open_validation(path, manifest)
    if not 0 <= index < len(labels):
        raise missing
    image, label = np.asarray(images[index][0]), np.asarray(labels[index])
    if label.ndim == 3:
        middle = len(label) // 2
        image, label = image[middle], label[middle]
    return drawn(image, label, label, "truth", background=DATASETS[match[1]].background)

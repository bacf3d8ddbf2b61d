"""Nothing of a case crosses the split, in any layout: by the bytes of the images, whatever division is asked for."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.data.broken import LAYOUTS
from tuner.data.preparation import prepare
from tuner.data.preparation import test_cases as read_test_cases

SECTIONS: dict[str, dict[str, Any]] = {
    "synapse": {"name": "synapse", "size": 16},
    "cityscapes": {"name": "cityscapes", "size": 16, "width": 16},
    "folder": {
        "name": "folder",
        "path": "own",
        "group": "{group}_*",
        "classes": "background=0, cell=7, rare=9",
        "size": 16,
    },
    "nnunet": {"name": "nnunet", "path": "Dataset008_Broken", "group": "{group}_*", "size": 16},
    "msd": {"name": "msd", "path": "Task98_Broken", "group": "v{group}?_a", "size": 16},
}
DIVISIONS = [
    pytest.param(0.3, 0, id="share"),
    pytest.param(0.3, 7, id="another-seed"),
    pytest.param({"folds": 2, "fold": 0}, 0, id="fold"),
]


def _bytes(images: Any) -> set[bytes]:
    return {np.ascontiguousarray(image).tobytes() for image in images}


@pytest.mark.parametrize(("validation", "seed"), DIVISIONS)
@pytest.mark.parametrize("layout", SECTIONS)
def test_no_image_is_on_two_sides(layout: str, validation: Any, seed: int, tmp_path: Path) -> None:
    """Who is validated on, or tested on, was never trained on: neither the image nor another one of the patient."""
    LAYOUTS[layout].make(tmp_path)
    section = SECTIONS[layout] | {"validation": validation}

    data = prepare(section, data_root=tmp_path, cache=tmp_path / "cache", seed=seed)

    train, held_out = _bytes(data.train.images), _bytes(data.validation.images)
    assert len(train) == len(data.train.images)
    assert len(held_out) == len(data.validation.images) > 0
    assert not train & held_out
    if layout == "msd":  # by the pattern, v00 to v09 are one patient and v10 to v19 another
        assert not {case[:2] for case in data.train.cases} & {case[:2] for case in data.validation.cases}
    if layout != "msd":
        tests = prepare(section | {"validation": "test"}, data_root=tmp_path, cache=tmp_path / "cache", seed=seed)
        assert tests.validation_protocol == "test"
        assert not _bytes(tests.validation.images) & (train | held_out)
        names = [case.name for case in read_test_cases(section, data_root=tmp_path, cache=tmp_path, seed=seed)]
        assert not set(names) & {*data.train.cases, *data.validation.cases}

"""What is made in one place, and who may know whom."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize(
    ("made", "place"),
    [
        ("NewStudy", "tuner/launch/new_study.py"),
        ("build_model", "tuner/training/components.py"),
        ("build_loss", "tuner/training/components.py"),
    ],
)
def test_one_place_makes_each(made: str, place: str) -> None:
    """What a second place forgets, a study or a network made there lacks."""
    call = re.compile(rf"(?<!class )(?<!def )(?<![\w.]){made}\(")
    makers = [
        str(path.relative_to(ROOT))
        for folder in ("tuner", "api")
        for path in (ROOT / folder).rglob("*.py")
        if call.search(path.read_text(encoding="utf-8"))
    ]

    assert makers == [place]

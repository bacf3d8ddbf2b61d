"""`data check` of every layout: each defect by itself is one line, and all of them at once are as many lines."""

from pathlib import Path

import pytest

from tests.data.broken import LAYOUTS

EVERY = [
    pytest.param(layout, defect, id=f"{layout}-{defect.replace(' ', '-')}")
    for layout, broken in LAYOUTS.items()
    for defect in broken.defects
    # What all sets of volumes have in common is spoilt one by one in one of them, and all at once in each.
    if layout not in ("msd", "synapse-raw") or defect not in LAYOUTS["nnunet"].defects
]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_whole_sets_have_none(layout: str, tmp_path: Path) -> None:
    """The check must not cry wolf: what the other tests here spoil is good before."""
    LAYOUTS[layout].make(tmp_path)

    assert LAYOUTS[layout].check(tmp_path) == []


@pytest.mark.parametrize(("layout", "defect"), EVERY)
def test_one_defect_is_one_line(layout: str, defect: str, tmp_path: Path) -> None:
    """A broken copy for every defect that the check knows: found, named, and nothing else is accused."""
    broken = LAYOUTS[layout]
    spoil, words = broken.defects[defect]
    spoil(broken.make(tmp_path))

    found = broken.check(tmp_path)

    assert len(found) == 1, found
    assert words in found[0]
    assert "\n" not in found[0]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_all_defects_at_once_are_as_many_lines(layout: str, tmp_path: Path) -> None:
    """Ten defects are ten lines: nobody repairs a data set ten times."""
    broken = LAYOUTS[layout]
    folder = broken.make(tmp_path)
    for spoil, _ in broken.defects.values():
        spoil(folder)

    found = broken.check(tmp_path)

    assert len(broken.defects) >= 10
    for defect, (_, words) in broken.defects.items():
        assert any(words in line for line in found), (defect, found)
    assert len(found) == len(broken.defects), found

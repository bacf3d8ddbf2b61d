"""Test scores for a report: the stored weights of chosen trials on the test cases. Imports torch."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from tuner.artifacts.mirror import artifacts_of
from tuner.atomic_io_part import write_json
from tuner.data.preparation import prepare, test_cases
from tuner.errors import ConflictError
from tuner.report.collect import Chapter, Entry, Material
from tuner.settings import Settings
from tuner.training.device import resolve_device
from tuner.training.final import score_tests
from tuner.training.run_dir import BEST, TrialFolder

TEST = "test.json"
"""Where a trial's test scores are kept, so that they are computed once."""


def score_entries(
    material: Material,
    entries: Sequence[Entry],
    settings: Settings,
    *,
    device: str = "auto",
    tell: Callable[[str], None] = lambda text: None,
) -> dict[tuple[str, int], Mapping[str, float | None]]:
    """Score the best weights of trials on the test cases: `{(study, number): metrics}`.

    Raises:
        DataError: The data set is not there.
        ConflictError: It has no test cases, or its validation cases are test cases.
    """
    place, artifacts = resolve_device(device), artifacts_of(settings)
    chapters = {chapter.record.name: chapter for chapter in material.chapters}
    found: dict[tuple[str, int], Mapping[str, float | None]] = {}
    for count, entry in enumerate(entries, start=1):
        chapter, folder = chapters[entry.study], artifacts.fetched(entry.study, entry.number, (TEST, BEST))
        kept = folder / TEST
        if not (folder / BEST).is_file():
            tell(f"trial {entry.number} of {entry.study}: its weights are not here; it is not tested")
            continue
        if not kept.is_file():
            tell(f"testing {count}/{len(entries)}: {entry.loss}, trial {entry.number}")
            write_json(kept, _scores(chapter, entry, folder, settings, place))
            artifacts.keep(entry.study, entry.number, TEST)
        found[entry.study, entry.number] = json.loads(kept.read_bytes())["metrics"]
    return found


def _scores(chapter: Chapter, entry: Entry, folder: Path, settings: Settings, device: str) -> Mapping[str, object]:
    params = next(row["params"] for row in chapter.rows if row["number"] == entry.number)
    config, seed = chapter.spec.config(params), chapter.spec.seed
    if chapter.record.resources.get("protocol") == "test":
        raise ConflictError(f"{entry.study!r} was validated on its test cases; there is nothing left to test on.")
    data = prepare(config.dataset, data_root=settings.data_root, cache=settings.cache, seed=seed)
    tests = test_cases(config.dataset, data_root=settings.data_root, cache=settings.cache, seed=seed)
    record = TrialFolder(folder, config, device)
    scores = score_tests(config, data=data, tests=tests, device=device, record=record)
    if scores is None:
        raise ConflictError(f"the data set {config.dataset['name']!r} has no test cases.", hint="Leave --test out.")
    return scores

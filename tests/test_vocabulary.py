"""Words that were replaced by the field's terms do not come back: a newcomer greps for the term that she knows."""

import re

import pytest

from tests.conftest import REPOSITORY

BANNED = {
    r"\bput aside\b|\bputs? \w+ aside\b": "quarantined",
    r"\blife signs?\b|\bsign of life\b": "heartbeat",
    r"\b(?:validation|training|test) hal(?:f|ves)\b": "split",
    r"\b(?:MOST|LEAST|FEWEST)_[A-Z]|\bFEWEST\b": "MAX_, MIN_",
    r"\bBEYOND\b|\bCOMBINATION: tuple": "the file of the loss's family",
    r"\b(?:Arrows|Aside|Ground|OnRay|Crew|Lifeline|Keeper|Drift|Blend|AddOn)\b": "a term of docs/architecture.md",
    r"\bhold_on_to_parent\b|\blifeline\b": "die_with_parent, parent watch",
    r"\b(?:ALONE_WITHIN_S|HANGS_AFTER_S|LOOK_(?:S|AT_LEAST_S|AGAIN_S|EVERY)|PATIENCE_S)\b": "_TIMEOUT_S, _INTERVAL_S",
    r"\bprune_by_hand\b": "prune_manually",
    r"given back to the queue": "returned to the queue",
    r"\b(?:for|per) (?:each )?arrow\b": "state transition",
    r"Machine room|Who works on it|Use what was found|not heard of any more": "the panels and messages of today",
    r"\bRunning it in a lab\b|\b[Mm]oving house\b": "Deployment, Migration",
    r"\b(?:Sampler|Pruner|Dataset|Metric|Model|Loss)Entry\b|\bRowT\b": "…Spec",
}
"""What must not be written, and what is written instead."""

SEARCHED = ("tuner", "api", "tests", "docs", "studies", "README.md", "CONTRIBUTING.md")
KEPT = ("tests/test_vocabulary.py", "tests/api/test_wording.py", "tuner/storage/migrations/versions/")
"""This list, a list of the same kind, and migrations that were shipped."""


@pytest.mark.parametrize(("word", "instead"), BANNED.items(), ids=list(BANNED.values()))
def test_old_words_stay_away(word: str, instead: str) -> None:
    """JSON keys and columns keep their names: `put_aside` is one."""
    found = []
    for root in SEARCHED:
        place = REPOSITORY / root
        for path in [place] if place.is_file() else sorted(place.rglob("*")):
            name = path.relative_to(REPOSITORY).as_posix()
            if path.suffix not in (".py", ".md", ".html", ".js", ".yaml") or name.startswith(KEPT):
                continue
            for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
                if re.search(word, line):
                    found.append(f"{name}:{number}: {line.strip()[:100]}")

    assert found == [], f"write: {instead}"

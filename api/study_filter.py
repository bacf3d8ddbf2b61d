"""Which studies a list shows."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from api.schemas import Archived
from api.study_outcome import without_result


@dataclass(frozen=True, slots=True)
class StudyFilter:
    """Conditions on documents of studies, all of which must hold."""

    archived: Archived = "exclude"
    tag: str | None = None
    starred: bool | None = None
    text: str = ""
    """In the name, data set, phase, notes or a tag, whatever its case."""

    def holds(self, study: Mapping[str, Any]) -> bool:
        """Tell whether a study meets them."""
        if self.archived != "include" and study["archived"] != (self.archived == "only"):
            return False
        if self.starred is not None and study["starred"] != self.starred:
            return False
        if self.tag is not None and self.tag not in study["tags"]:
            return False
        badge = "failed" if without_result(study) else ""  # as lists show it; the phase is found as well
        words = (study["name"], study["dataset"], study["phase"], badge, study["notes"], *study["tags"])
        return self.text.lower() in " ".join(str(word or "") for word in words).lower()

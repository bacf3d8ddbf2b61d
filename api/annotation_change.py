"""What a request changes of notes, tags and stars."""

from api.schemas import TagChange, TrialChange
from tuner.storage.annotations import AnnotationChange


def annotation_change(body: TagChange) -> tuple[AnnotationChange, str]:
    """Return what a body changes of notes, tags and star, and that in words; no words where it changes nothing."""
    notes, revision = (body.notes, body.notes_revision) if isinstance(body, TrialChange) else (None, None)
    change = AnnotationChange(
        notes=notes,
        notes_revision=revision,
        add_tags=tuple(body.add_tags),
        remove_tags=tuple(body.remove_tags),
        starred=body.starred,
    )
    words = [
        *(["notes"] if notes is not None else []),
        *(f"+{tag}" for tag in change.add_tags),
        *(f"−{tag}" for tag in change.remove_tags),
        *([] if change.starred is None else ["star" if change.starred else "no star"]),
    ]
    return change, ", ".join(words)

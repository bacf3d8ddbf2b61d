"""Notes, tags and stars of studies and trials, and filters by them.

Those of a trial belong to its place in the budget: an attempt that is tried again keeps them. Tags are added and
removed one by one and stars are set, so that two who write at once lose nothing; notes are one text, and whoever
changes it says which revision was read.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, delete, or_, select, update

from tuner.errors import ConflictError, NotFoundError, Problems
from tuner.storage import schema
from tuner.storage.base import AnyRow, StorageBase, bump_revision, insert_or_ignore
from tuner.storage.studies import set_archived

OF_STUDY = -1
"""The slot that stands for the study itself."""
MAX_NOTES = 20_000
"""Characters of a note."""
MAX_TAG = 50
"""Characters of a tag."""
MAX_TAGS = 50
"""Tags of one study or trial."""
CHUNK = 500
"""Places that one statement names."""

_annotations, _tags, _attempts = schema.annotations, schema.tags, schema.attempts


@dataclass(frozen=True, slots=True)
class Annotation:
    """What people have written beside a study or a trial."""

    notes: str = ""
    """Markdown."""
    notes_revision: int = 0
    """How often the notes were changed."""
    tags: tuple[str, ...] = ()
    starred: bool = False

    def as_dict(self) -> dict[str, Any]:
        """Return the part of a document of a study or trial."""
        return {
            "notes": self.notes,
            "notes_revision": self.notes_revision,
            "tags": list(self.tags),
            "starred": self.starred,
        }


NO_ANNOTATION = Annotation()


@dataclass(frozen=True, slots=True)
class AnnotationChange:
    """What is to be changed; what is left out stays."""

    notes: str | None = None
    notes_revision: int | None = None
    """The revision that was read; needed with `notes`."""
    add_tags: tuple[str, ...] = ()
    remove_tags: tuple[str, ...] = ()
    starred: bool | None = None

    def check(self) -> None:
        """Raise SpecError for what cannot be stored."""
        problems = Problems()
        if self.notes is not None and len(self.notes) > MAX_NOTES:
            problems.add("notes", f"has {len(self.notes)} characters; at most {MAX_NOTES} are kept")
        if self.notes is not None and not _is_text(self.notes):
            problems.add("notes", "holds a null character or half of a surrogate pair, which no database keeps")
        if self.notes is not None and self.notes_revision is None:
            problems.add("notes_revision", "is missing; it says which notes were read, so that none are lost")
        for tag in self.add_tags:
            if not is_tag(tag):
                right = f"1 to {MAX_TAG} printable characters without commas"
                problems.add("add_tags", f"{tag[:80]!r} is no tag; right are {right}", tag[:80])
        problems.refuse()


def is_tag(text: str) -> bool:
    """Tell whether a text can be a tag."""
    return 0 < len(text) <= MAX_TAG and text.isprintable() and text == text.strip() and "," not in text


def _is_text(text: str) -> bool:
    return not any(letter == "\x00" or "\ud800" <= letter <= "\udfff" for letter in text)


class Annotations(StorageBase):
    """The part of the store that knows notes, tags and stars."""

    def of_study(self, name: str) -> Annotation:
        """Return those of a study. Raises NotFoundError."""

        def read(connection: Connection) -> Annotation:
            study_id = self._find(connection, name).study_id
            return annotations_of(connection, study_id, [OF_STUDY]).get(OF_STUDY, NO_ANNOTATION)

        return self._database.read(read)

    def change_study(self, name: str, change: AnnotationChange, *, archived: bool | None = None) -> None:
        """Change those of a study, and archive it or take it back: all of it or nothing.

        Raises:
            SpecError: A note is too long, a tag is none, or the revision of the notes is missing.
            ConflictError: The notes were changed since that revision, the tags would be too many, or the study cannot
                be archived now (`Studies.archive`).
        """
        change.check()

        def write(connection: Connection) -> None:
            study_id = self._find(connection, name).study_id
            bump_revision(connection, study_id)  # first, for it locks the row: of two who write one is the first
            if archived is not None:
                row = connection.execute(select(schema.studies).where(schema.studies.c.study_id == study_id)).one()
                set_archived(connection, row, archived=archived)
            _apply(connection, study_id, [OF_STUDY], change, what=f"study {name!r}")

        self._database.write(write)

    def change_trials(self, name: str, numbers: Sequence[int], change: AnnotationChange) -> None:
        """Change those of some trials, of all of them or of none. Raises as `change_study`, and NotFoundError."""
        change.check()

        def write(connection: Connection) -> None:
            study_id = self._find(connection, name).study_id
            bump_revision(connection, study_id)
            slots = _slots(connection, study_id, name, numbers)
            what = f"trial {numbers[0]} of {name!r}" if len(numbers) == 1 else f"a trial of {name!r}"
            _apply(connection, study_id, slots, change, what=what)

        self._database.write(write)

    def tags(self, study_id: int) -> list[str]:
        """Return the tags of the trials of a study, in alphabetical order."""
        query = select(_tags.c.tag).where(_tags.c.study_id == study_id, _tags.c.slot != OF_STUDY).distinct()
        return sorted(self._database.read(lambda connection: list(connection.scalars(query))))


def annotations_of(connection: Connection, study_id: int, slots: Collection[int]) -> dict[int, Annotation]:
    """Return the annotations of some places of a study, without those that have none; one statement."""
    wanted = sorted(set(slots))
    same = and_(_tags.c.study_id == _annotations.c.study_id, _tags.c.slot == _annotations.c.slot)
    query = (
        select(_annotations, _tags.c.tag)
        .select_from(_annotations.outerjoin(_tags, same))
        .where(_annotations.c.study_id == study_id)
        .order_by(_annotations.c.slot, _tags.c.tag)
    )
    if len(wanted) <= CHUNK:  # else all that there are: they are fewer than trials
        query = query.where(_annotations.c.slot.in_(wanted))
    found: dict[int, list[AnyRow]] = {}
    for row in connection.execute(query) if wanted else ():
        found.setdefault(row.slot, []).append(row)
    return {slot: _read(own) for slot, own in found.items()}


def _read(rows: Sequence[AnyRow]) -> Annotation:
    first = rows[0]
    tags = tuple(sorted(row.tag for row in rows if row.tag is not None))
    return Annotation(first.notes, first.notes_revision, tags, bool(first.starred))


def has_tag(tags: Collection[str]) -> ColumnElement[bool]:
    """Return, as SQL on rows of `tuner_attempts`, whether the trial has one of these tags."""
    return _beside(_tags, _tags.c.tag.in_(tags))


def is_starred() -> ColumnElement[bool]:
    """Return the same of a star."""
    return _beside(_annotations, _annotations.c.starred)


def mentions(text: str) -> ColumnElement[bool]:
    """Return whether notes or a tag of the trial contain a text, whatever its case."""
    in_notes = _beside(_annotations, _annotations.c.notes.icontains(text, autoescape=True))
    return or_(in_notes, _beside(_tags, _tags.c.tag.icontains(text, autoescape=True)))


def _beside(table: Any, condition: ColumnElement[bool]) -> ColumnElement[bool]:
    # a set of places, of which there are few, and not a look for each of the trials, of which there may be many
    places = select(table.c.slot).where(table.c.study_id == _attempts.c.study_id, condition).correlate(_attempts)
    return _attempts.c.slot.in_(places)


def _slots(connection: Connection, study_id: int, name: str, numbers: Sequence[int]) -> list[int]:
    slots: dict[int, int] = {}
    wanted = sorted(set(numbers))
    for start in range(0, len(wanted), CHUNK):
        query = select(_attempts.c.number, _attempts.c.slot).where(
            _attempts.c.study_id == study_id, _attempts.c.number.in_(wanted[start : start + CHUNK])
        )
        slots |= {row.number: row.slot for row in connection.execute(query)}
    missing = [number for number in wanted if number not in slots]
    if missing:
        raise NotFoundError(
            f"study {name!r} has no trial {missing[0]}.", hint=f"`tuner trials {name} --all` lists them."
        )
    return sorted(set(slots.values()))


def _apply(connection: Connection, study_id: int, slots: Sequence[int], change: AnnotationChange, *, what: str) -> None:
    dialect = connection.dialect.name
    empty = {"study_id": study_id, "notes": "", "notes_revision": 0, "starred": False}
    connection.execute(insert_or_ignore(dialect, _annotations), [{**empty, "slot": slot} for slot in slots])
    before = annotations_of(connection, study_id, slots)
    if change.notes is not None:
        _check_revision(before, change, what)
    add = [{"study_id": study_id, "slot": slot, "tag": tag} for slot in slots for tag in dict.fromkeys(change.add_tags)]
    for slot in slots:
        after = ({*before[slot].tags} - {*change.remove_tags}) | {*change.add_tags}
        if len(after) > MAX_TAGS:
            raise ConflictError(f"{what} would have {len(after)} tags.", hint=f"At most {MAX_TAGS}: remove some first.")
    for start in range(0, len(slots), CHUNK):
        own = slots[start : start + CHUNK]
        if change.remove_tags:
            connection.execute(
                delete(_tags).where(
                    _tags.c.study_id == study_id, _tags.c.slot.in_(own), _tags.c.tag.in_(change.remove_tags)
                )
            )
        changes = _columns(before, own, change)
        if changes:
            connection.execute(
                update(_annotations)
                .where(_annotations.c.study_id == study_id, _annotations.c.slot.in_(own))
                .values(**changes)
            )
    if add:
        connection.execute(insert_or_ignore(dialect, _tags), add)


def _columns(before: Mapping[int, Annotation], slots: Sequence[int], change: AnnotationChange) -> dict[str, Any]:
    changes: dict[str, Any] = {} if change.starred is None else {"starred": change.starred}
    if change.notes is not None and any(before[slot].notes != change.notes for slot in slots):
        changes |= {"notes": change.notes, "notes_revision": _annotations.c.notes_revision + 1}
    return changes


def _check_revision(before: Mapping[int, Annotation], change: AnnotationChange, what: str) -> None:
    """Refuse notes that were written on others than those that are there; the very same text is no loss."""
    for found in before.values():
        if found.notes_revision != change.notes_revision and found.notes != change.notes:
            raise ConflictError(
                f"the notes of {what} have revision {found.notes_revision} now; yours follow {change.notes_revision}.",
                hint="Read them again, and put both together.",
            )

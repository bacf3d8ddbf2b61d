"""Documents of the service, as types: plain dictionaries at run time, known keys to mypy and editors.

They have the fields of the schemas in `api/schemas.py` (a test compares the two) and import no fastapi. A document may
carry further keys.
"""

from typing import Any, Literal, TypedDict

from tuner.registry import Scalar


class ObjectiveDocument(TypedDict):
    """A metric that is optimised."""

    metric: str
    direction: Literal["maximize", "minimize"]


class TrialCounts(TypedDict):
    """Trials of the budget by state; `total` is the sum of the others."""

    total: int
    waiting: int
    running: int
    complete: int
    pruned: int
    failed: int


class BestDocument(TypedDict):
    """The best complete trial so far."""

    number: int
    value: float
    params: dict[str, Scalar]
    loss: str | None


class WorkerDocument(TypedDict):
    """A live worker."""

    id: str
    host: str
    pid: int
    device: str
    trial: int | None
    last_seen: str


class ConfirmationDocument(TypedDict):
    """How the confirmation of a study stands."""

    phase: Literal["queued", "running", "paused", "stopped", "stalled", "done"]
    runs: TrialCounts


class LossTimeDocument(TypedDict):
    """A budget that is a training time: what each loss gets, and how much each has had."""

    hours_per_loss: float
    hours: dict[str, float]


class StudyDocument(TypedDict):
    """A study as it is now."""

    name: str
    phase: Literal["queued", "running", "paused", "stopped", "stalled", "done"]
    phase_reason: Literal["budget", "plateau", "target", "timeout", "user", "failures"] | None
    dataset: str | None
    model: str | None
    objectives: list[ObjectiveDocument]
    trials: TrialCounts
    best: BestDocument | None
    workers: list[WorkerDocument]
    loss_time: LossTimeDocument | None
    confirmation: ConfirmationDocument | None
    archived: bool
    notes: str
    notes_revision: int
    tags: list[str]
    starred: bool


class TrialDocument(TypedDict):
    """One attempt at a place of the budget."""

    number: int
    state: Literal["WAITING", "RUNNING", "COMPLETE", "PRUNED", "FAIL"]
    value: float | None
    values: list[float] | None
    params: dict[str, Scalar]
    loss: str | None
    reason: str | None
    retry_of: int | None
    attempts: int
    epochs: int
    duration_s: float | None
    worker: str | None
    started: str | None
    finished: str | None
    notes: str
    notes_revision: int
    tags: list[str]
    starred: bool


class TrialPage(TypedDict):
    """Some trials, and how many there are."""

    items: list[TrialDocument]
    total: int


class EpochDocument(TypedDict):
    """One finished epoch."""

    epoch: int
    train_loss: float | None
    lr: float | None
    seconds: float | None
    metrics: dict[str, float | None]
    per_class: dict[str, dict[str, float | None]]


class ArtifactDocument(TypedDict):
    """A file of a trial."""

    name: str
    size: int
    url: str


class TrialDetail(TrialDocument):
    """A trial with its epochs and files."""

    history: list[EpochDocument]
    artifacts: list[ArtifactDocument]


class BestDetail(BestDocument):
    """The best trial with the configuration that trains it again."""

    config: dict[str, Any]
    metrics: dict[str, float | None]


class ActivityEntry(TypedDict):
    """Something that was changed."""

    at: str
    actor: str
    study: str
    action: str
    detail: str


class ActivityPage(TypedDict):
    """Some entries of the log, newest first, and how many there are."""

    items: list[ActivityEntry]
    total: int


class FigureDocument(TypedDict):
    """Plotly JSON; `reason` says why nothing is drawn, `note` what was left out."""

    data: list[dict[str, Any]]
    layout: dict[str, Any]
    reason: str | None
    note: str | None


class SearchRange(TypedDict):
    """What of an option is searched when a study does not say otherwise."""

    low: float | None
    high: float | None
    log: bool
    choices: list[Scalar] | None


class OptionDocument(TypedDict):
    """One option: its published default, its legal closed interval, and what is searched."""

    name: str
    type: Literal["float", "int", "bool", "str"]
    default: Scalar
    low: float | None
    high: float | None
    choices: list[Scalar] | None
    search: SearchRange | None
    summary: str


class LossDocument(TypedDict):
    """A loss, as `tuner losses --json` describes it."""

    name: str
    family: Literal["pixel", "region", "boundary", "combination"]
    survey: bool
    options: list[OptionDocument]
    paper: str
    needs: list[str]
    formula: str
    summary: str
    good_for: str
    bad_for: str
    alone: bool
    multilabel: Literal["", "joint", "per_class"]
    soft_labels: bool


class PreparedDocument(TypedDict):
    """Data of a set that was prepared on the machine of the service."""

    fingerprint: str
    classes: list[str]
    frequencies: list[float]
    cases: int
    samples: int
    validation: int
    size: list[int]


class DatasetDocument(TypedDict):
    """A data set that a study can name."""

    name: str
    summary: str
    classes: list[str] | None
    classes_note: str | None
    options: list[OptionDocument]
    layout: str
    how_to_get: str
    prepared: list[PreparedDocument]
    studies: list[str]


class ModelDocument(TypedDict):
    """A network that a study can name."""

    name: str
    summary: str
    paper: str
    options: list[OptionDocument]

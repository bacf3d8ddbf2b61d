"""Documents of the API, for OpenAPI and for clients. Routes answer with the store's rows as they are."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Scalar = bool | int | float | str | None
State = Literal["WAITING", "RUNNING", "COMPLETE", "PRUNED", "FAIL"]
Phase = Literal["queued", "running", "paused", "stopped", "stalled", "done"]
Sort = Literal["number", "state", "value", "loss", "reason", "duration_s", "started", "finished", "worker"]
Order = Literal["asc", "desc"]
FigureName = Literal["history", "curves", "losses", "importance", "slice", "parallel", "contour", "pareto", "timeline"]
FigureFormat = Literal["plotly", "table", "csv"]
ExportFormat = Literal["yaml", "json", "python"]


class Document(BaseModel):
    """A document that may carry further fields."""

    model_config = ConfigDict(extra="allow")


class Problem(BaseModel):
    """What was wrong, what would be right, and where."""

    code: str = Field(examples=["not_found"])
    message: str = Field(examples=["there is no study 'orgnas'."])
    hint: str | None = Field(None, examples=["Did you mean 'organs'?"])
    where: str | None = Field(None, examples=["query.limit"])


class ErrorBody(BaseModel):
    """The body of every error."""

    error: Problem


class Objective(Document):
    """A metric that is optimised."""

    metric: str = Field(examples=["dice"])
    direction: Literal["maximize", "minimize"]


class Counts(Document):
    """Trials of the budget by state; `total` is the sum of the others."""

    total: int
    waiting: int
    running: int
    complete: int
    pruned: int
    failed: int


class Best(Document):
    """The best complete trial so far."""

    number: int
    value: float
    params: dict[str, Scalar]
    loss: str | None


class Worker(Document):
    """A live worker."""

    id: str
    host: str
    pid: int
    device: str
    trial: int | None
    last_seen: str


class Study(Document):
    """A study as it is now."""

    name: str = Field(examples=["organs"])
    phase: Phase
    phase_reason: Literal["budget", "timeout", "user", "failures"] | None
    dataset: str | None
    model: str | None
    objectives: list[Objective]
    trials: Counts
    best: Best | None
    workers: list[Worker]


class Trial(Document):
    """One attempt at a place of the budget."""

    number: int
    state: State
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


class TrialPage(BaseModel):
    """Some trials, and how many there are."""

    items: list[Trial]
    total: int


class Epoch(Document):
    """One finished epoch."""

    epoch: int
    train_loss: float | None
    lr: float | None
    seconds: float | None
    metrics: dict[str, float | None]
    per_class: dict[str, dict[str, float | None]]


class Artifact(BaseModel):
    """A file of a trial."""

    name: str = Field(examples=["predictions.png"])
    size: int
    url: str


class TrialDetail(Trial):
    """A trial with its epochs and files."""

    history: list[Epoch]
    artifacts: list[Artifact]


class BestDetail(Best):
    """The best trial with the configuration that trains it again."""

    config: dict[str, Any]
    metrics: dict[str, float | None]


class Figure(BaseModel):
    """Plotly JSON; `reason` says why nothing is drawn, `note` what was left out."""

    data: list[dict[str, Any]]
    layout: dict[str, Any]
    reason: str | None
    note: str | None


class Table(BaseModel):
    """A figure's numbers."""

    columns: list[str]
    rows: list[list[Any]]
    reason: str | None
    note: str | None


class StudyFile(BaseModel):
    """A study file as JSON: the sections of `studies/*.yaml`. Only `dataset` must be there."""

    model_config = ConfigDict(
        extra="allow",
        json_schema_extra={
            "examples": [
                {
                    "name": "organs",
                    "dataset": {"name": "phantom", "size": 64},
                    "search": {"loss": ["region"], "train.lr": {"low": 1e-4, "high": 1e-2, "log": True}},
                    "budget": {"trials": 30},
                }
            ]
        },
    )

    name: Any = Field(None, description="Letters, digits, `.`, `_`, `-`; at most 80.")
    dataset: Any = Field(None, description="A name, or a mapping with one.")


class Resume(BaseModel):
    """How a study goes on."""

    model_config = ConfigDict(extra="forbid")

    trials: int | None = Field(None, ge=1, le=1_000_000, description="The new total of the budget.", examples=[150])


class Enqueue(BaseModel):
    """A point that is tried next."""

    model_config = ConfigDict(extra="forbid")

    params: dict[str, Scalar] = Field(examples=[{"loss": "focal", "loss.focal.gamma": 2.0}], max_length=1000)


class Created(BaseModel):
    """The trial that was put into the queue."""

    number: int


class Health(BaseModel):
    """A sign of life."""

    status: Literal["ok"] = "ok"

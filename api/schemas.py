"""Documents of the API as pydantic models, for OpenAPI and clients; routes answer with the storage's rows."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Scalar = bool | int | float | str | None
State = Literal["WAITING", "RUNNING", "COMPLETE", "PRUNED", "FAIL"]
Phase = Literal["queued", "running", "paused", "stopped", "stalled", "done"]
Sort = Literal["number", "state", "value", "loss", "reason", "duration_s", "started", "finished", "worker"]
Order = Literal["asc", "desc"]
FigureName = Literal[
    "history", "curves", "losses", "edf", "importance", "interactions", "ablation", "slice", "parallel", "contour",
    "rank", "pareto", "timeline",
]  # fmt: skip
FigureAxis = Literal["trial", "time", "epoch"]
FigureFormat = Literal["plotly", "table", "csv"]
Archived = Literal["exclude", "only", "include"]
ExportFormat = Literal["yaml", "json", "python", "command"]


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

    total: int = Field(examples=[100])
    waiting: int = Field(examples=[62])
    running: int = Field(examples=[4])
    complete: int = Field(examples=[25])
    pruned: int = Field(examples=[8])
    failed: int = Field(examples=[1])


class Best(Document):
    """The best complete trial so far."""

    number: int = Field(examples=[17])
    value: float = Field(examples=[0.8123])
    params: dict[str, Scalar] = Field(examples=[{"loss": "focal", "loss.focal.gamma": 2.1, "train.lr": 0.003}])
    loss: str | None = Field(examples=["focal"])


class Worker(Document):
    """A live worker."""

    id: str = Field(examples=["5f2c9a1be070"])
    host: str = Field(examples=["node1"])
    pid: int = Field(examples=[4711])
    device: str = Field(examples=["cuda:0"])
    trial: int | None = Field(description="Number of the trial that it holds.", examples=[17])
    last_seen: str = Field(examples=["2026-01-31T12:00:00+00:00"])


class Confirmation(Document):
    """How the confirmation of a study stands."""

    phase: Phase
    runs: Counts = Field(description="Its trainings by state; they are no trials of the budget.")


class LossTime(Document):
    """A budget that is a training time: what each loss gets, and how much each has had."""

    hours_per_loss: float = Field(examples=[2.0])
    hours: dict[str, float] = Field(examples=[{"dice": 1.4, "focal": 1.3}])


class Study(Document):
    """A study as it is now."""

    name: str = Field(examples=["organs"])
    phase: Phase
    phase_reason: Literal["budget", "plateau", "target", "timeout", "user", "failures"] | None
    dataset: str | None = Field(examples=["synapse"])
    model: str | None = Field(examples=["unet"])
    objectives: list[Objective]
    trials: Counts
    best: Best | None
    workers: list[Worker]
    loss_time: LossTime | None = Field(description="Null where the budget is a number of trials.")
    confirmation: Confirmation | None
    archived: bool = Field(description="It is left out of lists, and nothing of it is started or queued.")
    notes: str = Field(description="Markdown.", examples=["Baseline of the *March* data."])
    notes_revision: int = Field(description="How often the notes were changed.", examples=[3])
    tags: list[str] = Field(examples=[["baseline"]])
    starred: bool


class Trial(Document):
    """One attempt at a place of the budget."""

    number: int = Field(examples=[17])
    state: State
    value: float | None = Field(description="First objective at the best epoch.", examples=[0.8123])
    values: list[float] | None = Field(description="All objectives there.", examples=[[0.8123]])
    params: dict[str, Scalar] = Field(examples=[{"loss": "focal", "loss.focal.gamma": 2.1, "train.lr": 0.003}])
    loss: str | None = Field(examples=["focal"])
    reason: str | None = Field(description="Why it did not complete.", examples=["pruned"])
    retry_of: int | None = Field(description="Number of the attempt before.", examples=[12])
    attempts: int = Field(examples=[1])
    epochs: int = Field(description="Finished epochs.", examples=[60])
    duration_s: float | None = Field(examples=[412.5])
    worker: str | None = Field(examples=["5f2c9a1be070"])
    started: str | None = Field(examples=["2026-01-31T12:00:00+00:00"])
    finished: str | None = Field(examples=["2026-01-31T12:06:52+00:00"])
    notes: str = Field(description="Markdown; shortened in lists.", examples=["Baseline of the *March* data."])
    notes_revision: int = Field(description="How often the notes were changed.", examples=[3])
    tags: list[str] = Field(examples=[["baseline"]])
    starred: bool


class TrialPage(BaseModel):
    """Some trials, and how many there are."""

    items: list[Trial]
    total: int


class Epoch(Document):
    """One finished epoch."""

    epoch: int = Field(description="From 1.", examples=[3])
    train_loss: float | None = Field(examples=[0.41])
    lr: float | None = Field(examples=[0.0028])
    seconds: float | None = Field(examples=[6.9])
    metrics: dict[str, float | None] = Field(examples=[{"dice": 0.78, "hd95": 6.1}])
    per_class: dict[str, dict[str, float | None]] = Field(examples=[{"dice": {"liver": 0.93, "aorta": 0.71}}])


class Artifact(BaseModel):
    """A file of a trial."""

    name: str = Field(examples=["predictions.png"])
    size: int = Field(description="Bytes.", examples=[48211])
    url: str = Field(examples=["/api/v1/studies/organs/trials/17/artifacts/predictions.png"])


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

    data: list[dict[str, Any]] = Field(examples=[[{"type": "scatter", "x": [0, 1], "y": [0.7, 0.8]}]])
    layout: dict[str, Any] = Field(examples=[{"height": 320}])
    reason: str | None = Field(examples=["No trial is complete yet."])
    note: str | None = Field(examples=["500 of 10000 trials are shown."])


class Table(BaseModel):
    """A figure's numbers."""

    columns: list[str] = Field(examples=[["trial", "dice", "loss"]])
    rows: list[list[Any]] = Field(examples=[[[17, 0.8123, "focal"]]])
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

    def content(self) -> dict[str, Any]:
        """Return what was sent, as it was sent: not copied, for it may be nested deeply."""
        given = {key: value for key, value in self.__dict__.items() if key in self.model_fields_set}
        return given | (self.__pydantic_extra__ or {})


class Resume(BaseModel):
    """How a study goes on."""

    model_config = ConfigDict(extra="forbid")

    trials: int | None = Field(None, ge=1, le=1_000_000, description="The new total of the budget.", examples=[150])


class NewBudget(BaseModel):
    """A larger budget."""

    model_config = ConfigDict(extra="forbid")

    trials: int = Field(ge=1, le=1_000_000, description="The new total of the budget.", examples=[150])


class Confirm(BaseModel):
    """The section `confirm` of a study file; what is left out is as the study has it, else its default."""

    model_config = ConfigDict(extra="forbid", strict=True)

    top: int = Field(3, ge=1, le=50, description="Best losses whose best trials are trained again.")
    seeds: int = Field(5, ge=1, le=100, description="Fresh training seeds of each; with `until`, the most.")
    folds: int | None = Field(None, ge=2, le=1000, description="Divided anew from each seed.")
    on: Literal["validation", "test"] = "validation"
    baseline: str | None = Field(
        "dice_cross_entropy", max_length=200, description="Loss whose published options compete; null: none."
    )
    trials: list[int] | None = Field(None, max_length=50, description="Trials instead of the best ones.")
    margin: float | None = Field(None, gt=0, description="Smaller differences do not matter.")
    until: Literal["sure"] | None = None


class ConfigurationVerdict(Document):
    """One configuration of a verdict."""

    name: str = Field(examples=["tversky"])
    loss: str | None
    trial: int | None
    runs: int = Field(examples=[5])
    cases: int = Field(examples=[6])
    mean: float | None = Field(examples=[0.651])
    interval: tuple[float, float] | None
    sd_runs: float | None
    runs_failed: int
    runs_collapsed: int
    seen_in_search: float | None
    seconds: float | None
    memory_bytes: int | None = Field(description="The most that a training has held.", examples=[734003200])
    memory_of: Literal["cuda", "process"] | None = Field(
        description="Of what: tensors on a CUDA device, or the whole process of a training on a CPU."
    )
    probability_best: float | None
    groups: str = Field(description="Letters of its groups, as `groups` of the verdict has them.", examples=["a"])


class PairVerdict(Document):
    """One pair of a verdict."""

    a: str
    b: str
    difference: float | None = Field(description="Mean of a − mean of b.")
    interval: tuple[float, float] | None = Field(description="Of confidence 95 %, for this pair alone.")
    interval_adjusted: tuple[float, float] | None
    p: float | None
    p_adjusted: float | None
    verdict: Literal["a_better", "b_better", "equivalent", "undecided"]
    within_margin: bool
    reason: Literal["one_run", "few_runs", "few_cases", "failed_runs", "unstable", "not_significant"] | None


class Variance(Document):
    """Components of variance of the scores."""

    run: float | None
    case: float | None
    residual: float | None


class LeftOut(Document):
    """Cases that no mean rests on."""

    cases: int
    why: dict[str, int]


class VerdictDetail(Document):
    """What may be said of a study's losses now; before a confirmation, nothing is claimed."""

    metric: str = Field(examples=["dice"])
    direction: Literal["maximize", "minimize"]
    alpha: float | None
    margin: float | None
    generalises_to: Literal["new trainings and new cases", "new trainings", "nothing"]
    configurations: list[ConfigurationVerdict]
    pairs: list[PairVerdict]
    variance: Variance
    left_out: LeftOut
    leader: str | None
    not_separable_from_leader: list[str]
    text: str
    confirmation: Confirmation | None


class Enqueue(BaseModel):
    """A point that is tried next."""

    model_config = ConfigDict(extra="forbid")

    params: dict[str, Scalar] = Field(examples=[{"loss": "focal", "loss.focal.gamma": 2.0}], max_length=200)


class Created(BaseModel):
    """The trial that was put into the queue."""

    number: int = Field(examples=[18])


class Retry(BaseModel):
    """Failed trials that are tried again."""

    model_config = ConfigDict(extra="forbid")

    trials: list[Annotated[int, Field(ge=0, lt=2**31)]] = Field(
        min_length=1, max_length=1000, description="Numbers of failed trials.", examples=[[3, 14]]
    )


class RetriedTrial(BaseModel):
    """A failed trial and its next attempt."""

    trial: int = Field(examples=[3])
    attempt: int = Field(description="Number of the new attempt.", examples=[61])


class Retried(BaseModel):
    """What was put back into the queue."""

    retried: list[RetriedTrial]


Tag = Annotated[str, Field(min_length=1, max_length=50, description="Printable, without commas.")]
Tags = Annotated[list[Tag], Field(max_length=50)]


class TagChange(BaseModel):
    """Tags and stars; what is left out stays as it is."""

    model_config = ConfigDict(extra="forbid", strict=True)

    add_tags: Tags = Field([], examples=[["baseline"]])
    remove_tags: Tags = Field([], examples=[["wip"]])
    starred: bool | None = Field(None, examples=[True])


class TrialChange(TagChange):
    """What is changed beside a trial."""

    notes: str | None = Field(None, max_length=20_000, description="Markdown.", examples=["Baseline."])
    notes_revision: int | None = Field(
        None,
        ge=0,
        le=2**31 - 1,
        description="`notes_revision` of the notes that were read; needed with `notes`. 409 when they are others now.",
        examples=[3],
    )


class StudyChange(TrialChange):
    """What is changed beside a study."""

    archived: bool | None = Field(None, description="Out of lists and of use, or taken back.", examples=[True])


class Annotate(TagChange):
    """Trials that get tags or a star."""

    trials: list[Annotated[int, Field(ge=0, lt=2**31)]] = Field(
        min_length=1, max_length=1000, description="Numbers of trials.", examples=[[3, 14]]
    )


class TrialsChanged(BaseModel):
    """How many trials were named."""

    trials: int = Field(examples=[2])


class Rename(BaseModel):
    """Another name for a study."""

    model_config = ConfigDict(extra="forbid", strict=True)

    name: str = Field(max_length=200, examples=["organs-2026"])


class ActivityEntry(Document):
    """Something that was changed."""

    at: str = Field(examples=["2026-01-31T12:00:00.000Z"])
    actor: str = Field(description="Name of a token, or `cli:USER@HOST`.", examples=["ada"])
    study: str = Field(description="Its name then.", examples=["organs"])
    action: str = Field(examples=["enqueue"])
    detail: str = Field(examples=["trial 18"])


class ActivityPage(BaseModel):
    """Some entries of the log, newest first, and how many there are."""

    items: list[ActivityEntry]
    total: int


class Health(BaseModel):
    """Health of the service."""

    status: Literal["ok"] = "ok"


class SearchRange(Document):
    """What of an option is searched when a study does not say otherwise."""

    low: float | None = Field(examples=[0.5])
    high: float | None = Field(examples=[5.0])
    log: bool
    choices: list[Scalar] | None


class OptionRow(Document):
    """One option: its published default, its legal closed interval, and what is searched."""

    name: str = Field(examples=["gamma"])
    type: Literal["float", "int", "bool", "str"] = Field(examples=["float"])
    default: Scalar = Field(examples=[2.0])
    low: float | None = Field(examples=[0.0])
    high: float | None = Field(examples=[10.0])
    choices: list[Scalar] | None
    search: SearchRange | None
    summary: str = Field(examples=["Exponent: how much easy pixels are turned down."])


class LossRow(Document):
    """A loss, as `tuner losses --json` describes it."""

    name: str = Field(examples=["focal"])
    family: Literal["pixel", "region", "boundary", "combination"] = Field(examples=["pixel"])
    survey: bool = Field(description="Whether the survey compares it.")
    options: list[OptionRow]
    paper: str = Field(examples=["Lin et al. 2017"])
    needs: list[str] = Field(description="What it is given beside logits and target.", examples=[["signed_distance"]])
    formula: str
    summary: str
    good_for: str
    bad_for: str
    alone: bool = Field(description="False: it is always base + weight · itself.")
    multilabel: Literal["", "joint", "per_class"] = Field(
        description="How classes that overlap are read: all in one formula, each against the rest, or not at all."
    )
    soft_labels: bool = Field(description="Whether targets between 0 and 1 and weights of pixels are allowed.")


class PreparedRow(Document):
    """Data of a set that was prepared on the machine of the service."""

    fingerprint: str = Field(description="First half of the content's hash.", examples=["9f86d081884c7d65"])
    classes: list[str] = Field(examples=[["background", "aorta", "liver"]])
    frequencies: list[float] = Field(description="Share of the training pixels of each class.")
    cases: int
    samples: int
    validation: int = Field(description="Samples that validate.")
    size: list[int] = Field(examples=[[64, 64]])


class DatasetRow(Document):
    """A data set that a study can name."""

    name: str = Field(examples=["synapse"])
    summary: str
    classes: list[str] | None = Field(description="null: `classes_note` says what decides.")
    classes_note: str | None
    options: list[OptionRow]
    layout: str
    how_to_get: str
    prepared: list[PreparedRow]
    studies: list[str] = Field(description="Studies that use it, newest first.")


class ModelRow(Document):
    """A network that a study can name."""

    name: str = Field(examples=["unet"])
    summary: str
    paper: str
    options: list[OptionRow]

"""An ensemble of a study's finished trials: who is chosen, what it gains, and the folder that `tuner predict` takes."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tuner.analysis.ensemble_pool import ProbabilityPool
from tuner.analysis.ensemble_selection import (
    LEVEL,
    MIN_CASES,
    REPEATS,
    Gain,
    Selection,
    cross_fitted_gain,
    select_greedily,
)
from tuner.analysis.export import write_folder
from tuner.artifacts.local import Artifacts
from tuner.config.study import StudySpec, load_spec
from tuner.config.trial import TrialConfig
from tuner.config.yaml_reader import YamlDocument
from tuner.data.preparation import PreparedData, open_source, prepare
from tuner.data.source import Grouped
from tuner.errors import ConflictError, DataError, NotFoundError, RequestError, TunerError
from tuner.metrics.catalog import METRICS
from tuner.settings import Settings
from tuner.storage.storage import Storage
from tuner.training.device import free_memory
from tuner.training.ensemble import check_same_data, predict_split
from tuner.training.ensemble_folder import ENSEMBLE, MEMBER_FILES, describe_ensemble, member_folder
from tuner.training.predict import open_run, read_run
from tuner.training.run_dir import BEST, DataCard

SIZE = 10
MAX_POOL = 20
"""Trials that are predicted unless they are named: those with the best values."""
_AGREES = 1e-3
"""Difference between a trial's stored value and that of its weights here from which it is told."""


@dataclass(frozen=True)
class Candidate:
    """A finished trial whose weights are here."""

    number: int
    loss: str | None
    value: float | None
    """Of the metric, as it was stored."""
    folder: Path
    config: TrialConfig
    card: DataCard


@dataclass(frozen=True)
class LeftOut:
    """A trial that takes no part, and why."""

    trial: int
    why: str


@dataclass(frozen=True)
class Ensemble:
    """What was chosen, and what it gains."""

    study: str
    metric: str
    size: int
    candidates: tuple[Candidate, ...]
    left_out: tuple[LeftOut, ...]
    selection: Selection
    gain: Gain
    cases: int
    notes: tuple[str, ...]

    @property
    def members(self) -> list[tuple[Candidate, int]]:
        """Return the chosen trials and how often each was taken, the most often first."""
        found = [(self.candidates[member], count) for member, count in self.selection.counts.items()]
        return sorted(found, key=lambda item: (-item[1], item[0].number))

    @property
    def weights(self) -> dict[int, float]:
        """Return the weight of each trial; they add up to 1."""
        total = sum(self.selection.counts.values())
        return {candidate.number: count / total for candidate, count in self.members}

    @property
    def best(self) -> Candidate:
        """Return the trial that scores best by itself, on all cases."""
        return self.candidates[self.selection.best_single]

    @property
    def single_values(self) -> dict[int, float | None]:
        """Return what every trial scores by itself, on all cases."""
        return {of.number: value for of, value in zip(self.candidates, self.selection.singles, strict=True)}

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON document of `tuner ensemble`."""
        values = self.single_values
        told = [{"trial": of.number, "loss": of.loss, "value": values[of.number]} for of in self.candidates]
        return {
            "study": self.study,
            "metric": self.metric,
            "direction": METRICS[self.metric].direction,
            "size": self.size,
            "members": [
                {
                    "trial": of.number,
                    "loss": of.loss,
                    "count": count,
                    "weight": self.weights[of.number],
                    "value": values[of.number],
                }
                for of, count in self.members
            ],
            "best_trial": told[self.selection.best_single],
            "value": self.selection.value,
            "path": list(self.selection.path),
            "gain": self.gain.as_dict(),
            "pool": told,
            "left_out": [{"trial": item.trial, "why": item.why} for item in self.left_out],
            "notes": list(self.notes),
            "text": "\n".join(self.sentences()),
        }

    def sentences(self) -> list[str]:
        """Say what was chosen and what may be said of the gain."""
        single = _number(self.single_values[self.best.number])
        said = [
            f"{self.metric} {_number(self.selection.value)} on the {self.cases} validation cases it was chosen on; "
            f"{single} of trial {self.best.number}, the best by itself. Both were chosen on these cases: their "
            "difference is no estimate of the gain."
        ]
        if self.gain.interval is None or self.gain.estimate is None:
            few = f"{self.gain.cases} cases have the metric, and choosing on one half and judging on the other takes"
            return [*said, f"The gain is not estimated: {few} {MIN_CASES}."]
        low, high = self.gain.interval
        return [
            *said,
            f"Gain over the best single trial: {self.gain.estimate:+.4f}, {100 * LEVEL:g} % interval {low:+.4f} to "
            f"{high:+.4f}; positive is in favour of the ensemble. Ensemble and trial are both chosen on one half of "
            "the cases and compared on the other, both ways, in "
            f"{self.gain.repeats} divisions; mean over {self.gain.cases} cases, bootstrap of cases.",
            "It holds for new cases like these and for these trained networks, not for new trainings. The epoch of "
            "each trial's weights was chosen on all of these cases, on both sides.",
        ]


def _number(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.4f}"


def find_ensemble(
    store: Storage,
    artifacts: Artifacts,
    settings: Settings,
    name: str,
    *,
    device: str,
    size: int = SIZE,
    trials: Sequence[int] | None = None,
    metric: str | None = None,
    on_progress: Callable[[str], None] = lambda words: None,
) -> Ensemble:
    """Choose an ensemble among the finished trials of a study.

    Args:
        store: The storage.
        artifacts: Files of the trials; their weights are needed.
        settings: Where data and prepared data are, and which code may be imported.
        name: The study.
        device: Where the trials' networks predict the validation cases.
        size: How many places the ensemble has; a trial may take several.
        trials: Only these; None: the `MAX_POOL` with the best values.
        metric: What it is chosen for; None: the study's first objective.
        on_progress: Told what is being done.

    Raises:
        NotFoundError: There is no such study or trial, or no trial is finished.
        UnknownNameError: There is no such metric.
        ConflictError: A named trial is not finished.
        RequestError: The study's training is the user's own, fewer than two trials have weights that can be read, or
            their data differ.
        DataError: The data set is not what the trials were trained on.
        DiskFullError: There is no space for the probabilities.
    """
    record = store.studies.get(name)
    spec = load_spec(YamlDocument(record.spec, {}, f"study {name}"))
    wanted = METRICS.find(metric or spec.objectives[0].metric, where="--metric").name
    rows, left_out = _finished(store, name, wanted, trials)
    if spec.base.train.is_own:
        raise RequestError(
            f"study {name!r} trains by code of your own: there are no weights of ours whose outputs could be averaged."
        )
    candidates, without = _with_weights(artifacts, name, rows, wanted, store)
    left_out += without
    _require_two(candidates, left_out)
    check_same_data({f"trial {candidate.number}": candidate.card for candidate in candidates})
    data = _data_of(candidates[0], spec, settings)
    _, _, source = open_source(candidates[0].config.dataset, settings.data_root)
    group = source.group if isinstance(source, Grouped) else str
    pool = ProbabilityPool(data, wanted, len(candidates), settings.cache, group)
    candidates, damaged = _predict(candidates, pool, data, settings, device, on_progress)
    left_out += damaged
    _require_two(candidates, left_out)
    on_progress(f"choosing among {len(candidates)} trials, and in {REPEATS} divisions of the cases")
    selection = select_greedily(pool, size, range(len(pool.units)))
    gain = cross_fitted_gain(pool, size)
    notes = [
        f"trial {candidate.number} scores {here:.4f} here, {candidate.value:.4f} when it was trained: another device?"
        for candidate, here in zip(candidates, selection.singles, strict=True)
        if here is not None and candidate.value is not None and abs(here - candidate.value) > _AGREES
    ]
    cases = len(set(pool.cases))
    return Ensemble(name, wanted, size, tuple(candidates), tuple(left_out), selection, gain, cases, tuple(notes))


def _finished(
    store: Storage, name: str, metric: str, trials: Sequence[int] | None
) -> tuple[list[dict[str, Any]], list[LeftOut]]:
    """Return the rows that take part: the named ones, or those with the best values."""
    if trials is not None:
        rows = [store.queries.trial(name, number) for number in dict.fromkeys(trials)]
        for row in rows:
            if row["state"] != "COMPLETE":
                raise ConflictError(
                    f"trial {row['number']} of {name!r} is {row['state']}; only complete trials can be members.",
                    where="--trials",
                )
        return rows, []
    rows = store.queries.trials(name, state="COMPLETE", sort="value", by=metric)
    if not rows:
        raise NotFoundError(
            f"no trial of {name!r} is complete yet.", hint=f"`tuner status {name}` says how the study stands."
        )
    why = f"not among the {MAX_POOL} best by {metric}; --trials names others"
    return rows[:MAX_POOL], [LeftOut(row["number"], why) for row in rows[MAX_POOL:]]


def _with_weights(
    artifacts: Artifacts, name: str, rows: Sequence[dict[str, Any]], metric: str, store: Storage
) -> tuple[list[Candidate], list[LeftOut]]:
    """Return the trials whose files are here and can be read, and the others."""
    found, left_out = [], []
    for row in rows:
        number = row["number"]
        folder = artifacts.fetched(name, number, MEMBER_FILES)
        missing = [file for file in MEMBER_FILES if not (folder / file).is_file()]
        if missing:
            left_out.append(LeftOut(number, f"{', '.join(missing)} not in {artifacts.place}/{name}/{number}"))
            continue
        try:
            config, card = read_run(folder)
        except TunerError as error:
            left_out.append(LeftOut(number, str(error)))
            continue
        epochs = store.queries.epochs(name, number)
        at_best = next((epoch for epoch in epochs if epoch["epoch"] == row["best_epoch"]), None)
        value = at_best["metrics"].get(metric) if at_best else None
        found.append(Candidate(number, row["loss"] or config.loss.get("name"), value, folder, config, card))
    return found, left_out


def _require_two(candidates: Sequence[Candidate], left_out: Sequence[LeftOut]) -> None:
    if len(candidates) < 2:
        missing = "".join(f"\n  trial {item.trial}: {item.why}" for item in left_out[:10])
        raise RequestError(
            f"an ensemble takes two finished trials with their files, and there {'is' if candidates else 'are'} "
            f"{len(candidates) or 'none'}.{missing}"
        )


def _predict(
    candidates: Sequence[Candidate],
    pool: ProbabilityPool,
    data: PreparedData,
    settings: Settings,
    device: str,
    on_progress: Callable[[str], None],
) -> tuple[list[Candidate], list[LeftOut]]:
    """Fill the pool by the candidates' networks, and return those that it keeps and those whose weights are damaged."""
    kept: list[int] = []
    left_out: list[LeftOut] = []
    for number, candidate in enumerate(candidates):
        on_progress(
            f"predicting {len(pool.units)} cases by trial {candidate.number}, {number + 1} of {len(candidates)}"
        )
        try:
            run = open_run(candidate.folder, device, allow_entry=settings.allow_entry)
        except RequestError as error:
            left_out.append(LeftOut(candidate.number, str(error)))
            continue
        predict_split(run.net, data, candidate.config.train, pool.probabilities[number], lambda: False)
        del run
        free_memory(device)
        if pool.is_finite(number):
            kept.append(number)
        else:
            why = "its weights are damaged: what they predict is not a number"
            left_out.append(LeftOut(candidate.number, f"{candidate.folder / BEST}: {why}"))
    pool.keep(kept)
    return [candidates[number] for number in kept], left_out


def _data_of(candidate: Candidate, spec: StudySpec, settings: Settings) -> PreparedData:
    data = prepare(candidate.config.dataset, data_root=settings.data_root, cache=settings.cache, seed=spec.seed)
    if data.fingerprint != candidate.card.fingerprint:
        raise DataError(
            f"the data set is not what the trials were trained on: fingerprint {data.fingerprint[:16]} here, "
            f"{candidate.card.fingerprint[:16]} of trial {candidate.number}.",
            hint="Name the folder of that data with --data-root.",
        )
    return data


def write_ensemble(found: Ensemble, folder: Path) -> None:
    """Write an ensemble as a new folder, in one step. Raises RequestError where it may not be, and DiskFullError."""
    about = {key: value for key, value in found.as_dict().items() if key in ("study", "metric", "value", "gain")}
    files = {ENSEMBLE: describe_ensemble(list(found.weights.items()), about)}
    for candidate, _ in found.members:
        for name in MEMBER_FILES:
            files[f"{member_folder(candidate.number)}/{name}"] = (candidate.folder / name).read_bytes()
    write_folder(folder, files)

"""A training function of the user's own, `package.module:function`, in the place of ours.

It is called as `function(config, device, folder)` and yields once per epoch: a mapping of metrics (`{"dice": 0.7}`,
with `train_loss`, `lr`, `per_class` and `epoch` where it knows them) or an EpochReport. Its code is imported only by a
process that trains, and only from packages that the machine's owner has named.
"""

import os
import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from time import perf_counter
from typing import Any

from tuner.config.trial import Objective, TrialConfig
from tuner.errors import EntryError
from tuner.metrics.catalog import METRICS
from tuner.models.catalog import SPELLING
from tuner.training.epoch_report import EpochReport, check_finite

EntryFunction = Callable[[TrialConfig, str, Path], Iterator[Any]]

_END = object()
_step: Callable[[], bool] | None = None
"""Told of every step of the training that runs in this process."""
_FACTS = ("epoch", "train_loss", "lr", "per_class")


def load_entry(path: str, allowed: Collection[str], *, where: str = "train.entry") -> Callable[..., Any]:
    """Import `package.module:function` when its top package is in `allowed`; `where` is the key that names it.

    Raises:
        EntryError: It is not spelt so, not allowed here, or cannot be imported.
    """
    if not SPELLING.fullmatch(path):
        raise EntryError(f"{path!r} is not spelt `package.module:function`.", where=where)
    module, _, name = path.partition(":")
    package = module.partition(".")[0]
    if package not in allowed:
        named = ", ".join(sorted(allowed)) or "none"
        raise EntryError(
            f"code of the package {package!r} may not be imported on this machine (allowed: {named}).",
            hint=f"Its owner can allow it: TUNER_ALLOW_ENTRY={package}.",
            where=where,
        )
    if os.getcwd() not in sys.path:  # last, so that what lies there shadows nothing that is installed
        sys.path.append(os.getcwd())
    try:
        function: Callable[..., Any] = getattr(import_module(module), name)
    except AttributeError:
        raise EntryError(f"the module {module!r} has no {name!r}.", where=where) from None
    except (Exception, SystemExit) as error:  # a script that reads its command line ends the process
        raise EntryError(f"importing {module!r} failed: {type(error).__name__}: {error}", where=where) from error
    if not callable(function):
        raise EntryError(f"{path!r} is {type(function).__name__}, not a function.", where=where)
    return function


def heartbeat() -> bool:
    """Say, from within a long step of a training function, that it makes progress.

    Returns True when it is to end (stopped, out of time, ended by hand): it may save what it needs and return, and is
    called again with the same folder where the trial goes on. Outside a training it does nothing.
    """
    return _step is not None and _step()


def run_entry(
    function: EntryFunction, config: TrialConfig, *, device: str, folder: Path, stop: Callable[[], bool]
) -> Iterator[EpochReport]:
    """Run a user's training: number what it yields, check it, and end after `train.epochs` epochs or when stopped.

    It may end sooner by itself (`sys.exit()` is an end too); then it is as complete as it wants to be.

    Raises:
        EntryError: It yields what is no report, or wants to end the process with an error.
    """
    global _step
    if stop():
        return
    _step = stop
    epoch, began = 0, perf_counter()
    items = _ask(lambda: function(config, device, folder), ())
    if not hasattr(items, "__iter__"):
        raise EntryError(f"the training function returned {type(items).__name__}; it must yield an item per epoch.")
    iterator = iter(items)
    try:
        while (item := _ask(lambda: next(iterator, _END), _END)) is not _END:
            report = as_report(item, epoch + 1, perf_counter() - began, objectives=config.objectives)
            epoch, began = report.epoch, perf_counter()
            yield check_finite(report)
            if epoch >= config.train.epochs or stop():
                return
    finally:
        _step = None
        close = getattr(items, "close", None)
        if close is not None:
            close()


def _ask(ask: Callable[[], Any], ended: object) -> Any:
    """Return what a user's code answers, or `ended` when it ends the process.

    The worker has further trials to serve.
    """
    try:
        return ask()
    except (Exception, KeyboardInterrupt):
        raise
    except SystemExit as error:
        if error.code in (None, 0):
            return ended
        raise EntryError(f"the training function called sys.exit({error.code!r}).") from error
    except BaseException as error:
        raise EntryError(f"the training function raised {type(error).__name__}: {error}.") from error


def as_report(item: object, epoch: int, seconds: float, *, objectives: Sequence[Objective]) -> EpochReport:
    """Turn what a user's function yielded into a report. Raises EntryError when it cannot be one.

    Metrics have names of ours, unless an objective has one of the user's own: then any name is one.
    """
    needed = objectives[0].metric
    is_free = any(objective.metric not in METRICS for objective in objectives)
    if isinstance(item, EpochReport):
        report = item
    elif isinstance(item, Mapping):
        facts = {key: item[key] for key in _FACTS if key in item}
        metrics = {str(k): _number(v, str(k)) for k, v in item.items() if k not in _FACTS}
        unknown = [] if is_free else sorted(set(metrics) - set(METRICS))
        if unknown:
            raise EntryError(
                f"epoch {epoch}: {', '.join(map(repr, unknown))} is no metric.",
                hint=f"Metrics: {', '.join(METRICS)}; beside them: {', '.join(_FACTS)}.",
            )
        report = EpochReport(
            epoch=int(facts.get("epoch", epoch)),
            train_loss=_number(facts.get("train_loss"), "train_loss"),
            lr=_number(facts.get("lr"), "lr"),
            seconds=seconds,
            metrics=metrics,
            per_class=_nest(facts.get("per_class", {})),
        )
    else:
        raise EntryError(
            f"epoch {epoch}: the training function yielded {type(item).__name__}; "
            "it must yield a mapping of metrics or an EpochReport."
        )
    if report.metrics and needed not in report.metrics:
        raise EntryError(f"epoch {epoch}: the objective {needed!r} is missing; found {', '.join(report.metrics)}.")
    return report if report.epoch >= 1 else replace(report, epoch=epoch)


def _nest(given: object) -> dict[str, dict[str, float | None]]:
    if not isinstance(given, Mapping):
        raise EntryError(f"per_class is {type(given).__name__}; it must map a metric to its values by class.")
    return {
        str(name): {str(label): _number(value, f"per_class.{name}.{label}") for label, value in dict(values).items()}
        for name, values in given.items()
    }


def _number(value: Any, name: str) -> float | None:
    if value is None:
        return None
    try:
        return float(value)
    except (TypeError, ValueError):
        raise EntryError(f"{name} is {value!r}, which is not a number.") from None

"""Training as a generator of epoch reports: whoever iterates decides whether to go on.

A training that finds `last.ckpt` of the same configuration in its folder says again what the finished epochs said
(`replayed`), and continues behind them with the numbers that it would have had without the interruption.
"""

import logging
from collections.abc import Callable, Collection, Generator
from dataclasses import replace
from pathlib import Path
from time import perf_counter

from tuner.config.trial import TrialConfig
from tuner.data.preparation import PreparedData
from tuner.errors import DataError, DiskFullError
from tuner.training.checkpoint import CheckpointWriter, identity_of, read_checkpoint
from tuner.training.command import ProgramPlace, run_command
from tuner.training.components import AllowedSources
from tuner.training.custom import load_entry, run_entry
from tuner.training.device import free_memory, release_frames
from tuner.training.epoch_report import EpochReport, check_finite
from tuner.training.evaluate import Validation
from tuner.training.loop import TrainingState, configure_torch
from tuner.training.peak_memory import MemoryMeter
from tuner.training.program_reports import MAX_EPOCH
from tuner.training.run_dir import RunDirectory, write_data_card
from tuner.training.visualize import Pictures

logger = logging.getLogger(__name__)


def train(
    config: TrialConfig,
    *,
    data: PreparedData | None,
    device: str,
    folder: Path,
    stop: Callable[[], bool],
    allow_entry: Collection[str] = (),
    data_root: Path | None = None,
    is_told: Callable[[], bool] | None = None,
    place: ProgramPlace | None = None,
    device_share: float = 1.0,
) -> Generator[EpochReport]:
    """Train a configuration and yield a report for each finished epoch.

    `stop` is asked before every step: when it says yes, the generator ends without a report; the epoch under way is
    given up, and a later call with the same folder trains it again from its beginning. Closing the generator between
    two reports ends the training and frees the device.

    Args:
        config: What to train.
        data: What `tuner.data.preparation.prepare` made of `config.dataset`; None where a training of the user's own
            has none.
        device: `cpu`, `mps` or `cuda:N`.
        folder: Artifacts of this trial; created, or continued from.
        stop: Whether to end now.
        allow_entry: Packages from which `train.entry` and `model.entry` may be imported.
        data_root: Where `model.weights` lies, unless it is a whole path.
        is_told: Like `stop`, asked where no step was made (a program is waited for); None: `stop` is asked.
        place: What `train.command` may run here, and what it must not see; None: nothing may be run.
        device_share: Share of the device's free memory that may be filled with data: others train there too.

    Raises:
        CommandError: The program of `train.command` has failed, or has ended without a report.
        ReportError: That program contradicts itself.
        Diverged: A loss or a metric is not finite.
        UnrepeatableError: `train.deterministic` is set, and the device has no repeatable kernel for what is trained.
        EffectiveConfigError: The built parts would not train what the configuration says.
        EntryError: `train.entry` or `model.entry` is not allowed, cannot be imported, or gives something else than
            epochs or a network.
        DataError: `model.weights` is not there, cannot be read, or does not fit.
        DiskFullError: There is no space for a checkpoint; the last one stays.
    """
    if config.train.command is None:
        configure_torch(config.train)
    memory = MemoryMeter(device)
    with RunDirectory(folder, config, device) as record:
        run = None
        try:
            if config.train.command is not None:
                yield from _run_program(config, device, record, stop, is_told or stop, place or ProgramPlace())
                return
            if config.train.entry is not None:
                yield from _train_elsewhere(config, device, record, stop, allow_entry, memory)
                return
            if data is None:
                raise DataError("there is no data set to train on.", where="dataset")
            run = TrainingState(config, data, device, AllowedSources(data_root, allow_entry), device_share)
            record.note_precision(run.trial.precision)
            write_data_card(folder, data)
            yield from _train(config, run, record, stop, memory)
        except Exception as error:
            release_frames(error)  # before memory is given back: what they hold could not be
            raise
        finally:
            if run is not None:
                run.close()
            else:
                free_memory(device)


def _train(
    config: TrialConfig, run: TrainingState, record: RunDirectory, stop: Callable[[], bool], memory: MemoryMeter
) -> Generator[EpochReport]:
    identity = identity_of(config.parameters(), run.data.fingerprint)
    checkpoint = CheckpointWriter(record.path)
    pictures = Pictures(run, record)
    finished = _resume(run, record, identity)
    try:
        yield from finished
        for epoch in range(len(finished) + 1, config.train.epochs + 1):
            began = perf_counter()
            trained = run.train_epoch(epoch, stop)
            if trained is None:
                logger.info("stopped in epoch %d; it will be trained again from its beginning", epoch)
                return
            state = run.state(epoch)
            checkpoint.begin({"identity": identity, **state})
            validation = None
            if is_validated(epoch, config):
                validation = run.validate(stop)
                if validation is None:
                    logger.info("stopped while validating epoch %d; it will be trained again", epoch)
                    return
            report = check_finite(as_report(epoch, *trained, perf_counter() - began, validation))
            report = replace(report, peak_memory=memory.read())
            is_best = record.add(report)
            checkpoint.commit(at_once=is_best or epoch == config.train.epochs)
            if is_best and validation is not None:
                record.write_best(state["model"], epoch)
                pictures.keep(validation, epoch)
            log_report(report)
            if epoch == config.train.epochs:
                pictures.write()
            yield report
        pictures.write()
    except GeneratorExit:
        if not stop():
            _write_late(pictures)
        raise
    finally:
        checkpoint.finish()


def _write_late(pictures: Pictures) -> None:
    """Write the pictures of a training that was ended from outside, which must not fail over them."""
    try:
        pictures.write()
    except DiskFullError as error:
        logger.warning("%s", error)


def _resume(run: TrainingState, record: RunDirectory, identity: str) -> list[EpochReport]:
    """Put the run into the state of the last checkpoint and return what was reported until then."""
    state = read_checkpoint(record.path, identity=identity)
    finished = record.resume(state["epoch"] if state else 0)
    if state is None:
        return finished
    if [report.epoch for report in finished] != list(range(1, state["epoch"] + 1)):
        logger.warning("metrics.jsonl does not hold the %d epochs of last.ckpt; training starts over", state["epoch"])
        return record.resume(0)
    run.restore(state)
    if record.best is not None and record.best.epoch == state["epoch"] != record.best_epoch_on_disk():
        record.write_best(state["model"], state["epoch"])
    logger.info("continuing after epoch %d", state["epoch"])
    return finished


def _train_elsewhere(
    config: TrialConfig,
    device: str,
    record: RunDirectory,
    stop: Callable[[], bool],
    allowed: Collection[str],
    memory: MemoryMeter,
) -> Generator[EpochReport]:
    function = load_entry(config.train.entry or "", allowed)
    stored = {report.epoch: report for report in record.resume(config.train.epochs)}
    yield from stored.values()
    for told in run_entry(function, config, device=device, folder=record.path, stop=stop):
        report = replace(told, peak_memory=memory.read())
        earlier = stored.get(report.epoch)
        if earlier is not None:  # what was reported stays: it may have been seen
            if earlier.metrics != report.metrics:
                logger.warning("epoch %d: trained again with other values; those stored stay", report.epoch)
            continue
        record.add(report)
        log_report(report)
        yield report


def _run_program(
    config: TrialConfig,
    device: str,
    record: RunDirectory,
    stop: Callable[[], bool],
    is_told: Callable[[], bool],
    place: ProgramPlace,
) -> Generator[EpochReport]:
    stored = record.resume(MAX_EPOCH)
    for report in run_command(
        config,
        device=device,
        folder=record.path,
        stored=stored,
        place=place,
        step=stop,
        is_told=is_told,
        on_output=record.write_output,
    ):
        if not report.replayed:
            record.add(report)
            log_report(report)
        yield report


def is_validated(epoch: int, config: TrialConfig) -> bool:
    """Say whether an epoch ends with a validation: every `validate_every`-th, and the last."""
    return epoch % config.train.validate_every == 0 or epoch == config.train.epochs


def as_report(epoch: int, loss: float, lr: float, seconds: float, validation: Validation | None) -> EpochReport:
    """Put an epoch's numbers together."""
    if validation is None:
        return EpochReport(epoch, loss, lr, seconds)
    return EpochReport(
        epoch,
        loss,
        lr,
        seconds,
        metrics=validation.metrics,
        per_class=validation.per_class,
        cases=validation.cases,
        one_class=validation.one_class,
    )


def log_report(report: EpochReport) -> None:
    """Write an epoch to the log."""
    values = "  ".join(f"{name} {value:.4g}" for name, value in report.metrics.items() if value is not None)
    loss = "" if report.train_loss is None else f"loss {report.train_loss:.5g}  "
    logger.info("epoch %d  %s%s  (%.1f s)", report.epoch, loss, values, report.seconds)

"""What a report says, in order: the answer, the tables, the figures, the pictures, how it was made."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from tuner.analysis.confirmation import verdict_of
from tuner.analysis.importance import importances
from tuner.analysis.leaderboard import caveats
from tuner.analysis.robustness import robustness_of
from tuner.analysis.seed_spread import SeedSpread, confirm_command, seed_spread, unconfirmed_statement
from tuner.analysis.verdict import Verdict
from tuner.artifacts.local import Artifacts
from tuner.config.yaml_reader import dump_yaml
from tuner.errors import DataError
from tuner.registry import Scalar
from tuner.report.blocks import Block, Code, Heading, Paragraph, Picture, Points, Table
from tuner.report.calibration_figure import calibration_blocks
from tuner.report.charts import LearningCurve, Strip, draw_curves, draw_strips
from tuner.report.collect import Entry, Line, ReportData, StudyData, lines_of, rank, ranked
from tuner.report.prediction_grid import PredictionGrid, draw_prediction_grid
from tuner.report.robustness_figure import robustness_blocks
from tuner.report.tables import Scores, class_table, main_table, span, with_deviation
from tuner.report.verdict_document import verdict_section
from tuner.storage.storage import Storage

MAX_CURVES = 8
MAX_PARAMETERS = 12
MAX_TRIALS = 15


def compose(
    material: ReportData, store: Storage, artifacts: Artifacts, cache: Path, tests: Scores
) -> tuple[str, list[Block]]:
    """Return title and blocks of the report."""
    tables = {model: lines_of(material, model) for model in material.models} if material.is_about_losses else {}
    title = _title(material)
    verdicts: dict[str, Verdict] = {}
    for chapter in material.chapters:
        with suppress(DataError):  # the files of its runs are on another machine
            verdict = verdict_of(store, artifacts, chapter.record.name)
            verdicts |= {} if verdict is None else {chapter.record.name: verdict}
    blocks: list[Block] = [Heading(title, 1), Paragraph(_answer(material, tables, [*verdicts.values()]), strong=True)]
    blocks.append(Paragraph(_about(material)))
    for name, verdict in verdicts.items():
        blocks += verdict_section(name, verdict)
    for model, lines in tables.items():
        blocks.append(Heading(f"Losses with {model}"))
        blocks.append(main_table(material, lines, tests))
        strips = _strips(material, lines)
        if strips:
            caption = "A dot is a trial. What lies between ring and diamond is what tuning was worth."
            blocks.append(
                Picture(draw_strips(strips, material.metric).to_svg(), "image/svg+xml", caption, "Values by loss")
            )
        of_classes = class_table(material, lines)
        blocks += [of_classes] if of_classes else []
    if not tables:
        blocks += [Heading("Trials"), _best_trials(material)]
    for chapter in material.chapters:
        robustness = robustness_of(store, artifacts, chapter.record.name)
        blocks += robustness_blocks(robustness) if robustness else []
    blocks += _curves(material, store)
    if any(not chapter.spec.base.train.is_own for chapter in material.chapters):
        blocks += _pictures(material, artifacts, cache)
        blocks += calibration_blocks(material, best_of_each_loss(material), artifacts)
    blocks += _importance(material)
    blocks += _making(material, verdicts)
    return title, blocks


def _title(material: ReportData) -> str:
    base = material.first.spec.base
    if not material.is_about_losses:
        return f"Which configuration of {material.first.record.name}?"
    return f"Which loss for {base.dataset['name'] if base.has_data else material.first.record.name}?"


def _best_trials(material: ReportData) -> Table:
    """Return the best trials of studies that are about no loss, with what they were trained with."""
    entries = sorted(material.entries, key=lambda entry: (rank(entry.value, material.direction), entry.number))
    shown = entries[:MAX_TRIALS]
    names = list(dict.fromkeys(name for entry in shown for name in entry.params))
    rows = [
        [f"{entry.study} {entry.number}", f"{entry.value:.4g}", *(_value(entry.params.get(name)) for name in names)]
        for entry in shown
    ]
    caption = f"The best {len(shown)} of {len(entries)} complete trials by {material.metric} ({material.direction})."
    return Table(["trial", material.metric, *names], rows, caption)


def _value(value: Scalar) -> str:
    return "–" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)


def worth_testing(material: ReportData) -> list[Entry]:
    """Return the trials whose test scores the tables show: the better configuration of each loss, every repeat."""
    lines = [line for model in material.models for line in lines_of(material, model)]
    return [entry for line in lines if line.best for entry in line.best.entries]


def best_of_each_loss(material: ReportData) -> list[Entry]:
    """Return the best trial of every loss, best first, whatever the model."""
    best: dict[str, Entry] = {}
    for entry in sorted(material.entries, key=lambda e: (rank(e.value, material.direction), e.number)):
        best.setdefault(entry.loss, entry)
    return list(best.values())


def _answer(material: ReportData, tables: Mapping[str, Sequence[Line]], verdicts: Sequence[Verdict]) -> str:
    """Return the verdicts of confirmations; without one, the best values seen and what is not known of them."""
    if verdicts:
        return "\n".join(verdict.text for verdict in verdicts)
    sentences = []
    for model, lines in tables.items():
        best = ranked(lines, material.direction)
        if not best:
            continue
        first = best[0]
        how = "at its published defaults" if first.best is first.default else "with tuned options"
        value = f"{material.metric} {with_deviation(first.best)}"
        sentences.append(f"Best value seen with {model}: {first.loss} {how}, {value}.")
    if not tables and material.entries:
        entry = best_of_each_loss(material)[0]
        sentences.append(
            f"Best value seen: {material.metric} {entry.value:.4g}, trial {entry.number} of {entry.study}."
        )
    sentences.append(unconfirmed_statement(_spread(material)))
    commands = ", ".join(f"`{confirm_command(chapter.record.name)}`" for chapter in material.chapters)
    return " ".join([*sentences, f"{commands} trains the best again with fresh seeds."])


def _spread(material: ReportData) -> SeedSpread | None:
    found = [seed_spread(chapter.rows, study_seed=chapter.spec.seed) for chapter in material.chapters]
    return max((spread for spread in found if spread), key=lambda spread: spread.configurations, default=None)


def _about(material: ReportData) -> str:
    rows = [row for chapter in material.chapters for row in chapter.rows]
    ended = sum(row["state"] in ("COMPLETE", "PRUNED", "FAIL") for row in rows)
    seconds = sum(spent.seconds for spent in material.spent.values())
    names = " and ".join(chapter.record.name for chapter in material.chapters)
    losses = len({entry.loss for entry in material.entries})
    if not material.is_about_losses:
        configurations = len({entry.repeat for entry in material.entries})
        return (
            f"{names}: {ended} finished trials of {configurations} configurations, {span(seconds)} of device time. "
            f"They are compared by {material.metric}, as the training of the user's own reports it."
        )
    left = f" {len(rows) - ended} of the budget are still open." if ended < len(rows) else ""
    return (
        f"{names}: {ended} finished trials over {losses} losses, {span(seconds)} of device time.{left} "
        f"Losses are compared by {material.metric} on validation cases, which no trial was trained on."
    )


def _strips(material: ReportData, lines: Sequence[Line]) -> list[Strip]:
    return [
        Strip(
            loss=line.loss,
            family=line.family,
            values=[e.value for e in material.entries if e.loss == line.loss and e.model == line.model],
            default=line.default.mean if line.default else None,
            tuned=line.tuned.mean if line.tuned else None,
        )
        for line in lines
        if line.best
    ]


def _curves(material: ReportData, store: Storage) -> list[Block]:
    found = []
    for entry in best_of_each_loss(material)[:MAX_CURVES]:
        epochs = store.queries.epochs(entry.study, entry.number)
        points = [(epoch["epoch"], epoch["value"]) for epoch in epochs if epoch["value"] is not None]
        if len(points) > 1:
            found.append(LearningCurve(entry.loss if material.is_about_losses else f"trial {entry.number}", points))
    if not found:
        return []
    drawn = draw_curves(found, material.metric).to_svg()
    caption = f"The best trial of each loss; the first {len(found)} losses."
    if not material.is_about_losses:
        caption = "The best trial."
    return [Heading("Learning curves"), Picture(drawn, "image/svg+xml", caption, "Learning curves of the best trials")]


def _pictures(material: ReportData, artifacts: Artifacts, cache: Path) -> list[Block]:
    wall = draw_prediction_grid(material, best_of_each_loss(material), artifacts, cache)
    if wall is None:
        text = (
            "No pictures: they need the trials' files and the prepared data, and this machine lacks one of them. "
            "Run the report where a worker ran, with its --artifacts and --cache."
        )
        return [Heading("Predictions"), Paragraph(text)]
    return [Heading("Predictions"), Picture(wall.png, "image/png", _wall_caption(wall), "Predictions side by side")]


def _wall_caption(wall: PredictionGrid) -> str:
    return (
        f"The {len(wall.cases)} validation cases about which the losses differ most; a column is a loss's best trial. "
        "Blue: missed. Orange: predicted where there is nothing. Purple: another class. White: the true border."
    )


def _importance(material: ReportData) -> list[Block]:
    rows = [row for chapter in material.chapters for row in chapter.rows if row["state"] == "COMPLETE"]
    found = importances([row["params"] for row in rows], [row["value"] for row in rows])[:MAX_PARAMETERS]
    if not found:
        return []
    caption = "Share of the variance of the values that a parameter explains by itself, among the trials that have it."
    cells = [[item.name, f"{100 * item.share:.0f} %", str(item.trials)] for item in found]
    return [Heading("What mattered"), Table(["parameter", "share", "trials"], cells, caption)]


def _making(material: ReportData, verdicts: Mapping[str, Verdict]) -> list[Block]:
    blocks: list[Block] = [Heading("How it was made")]
    for chapter in material.chapters:
        if len(material.chapters) > 1:
            blocks.append(Heading(chapter.record.name, 3))
        blocks.append(Points(_facts(chapter)))
        said = _caveats(chapter, verdicts.get(chapter.record.name))
        blocks += [Paragraph("Mind:"), Points(said)] if said else []
        blocks.append(Paragraph("The study file; `tuner launch` with it runs the same search."))
        blocks.append(Code(dump_yaml(chapter.record.spec), "yaml"))
    best = best_of_each_loss(material)[0]
    commands = f"tuner export {best.study} --trial {best.number} -o best.yaml\ntuner train best.yaml -o final"
    is_own = material.first.spec.base.train.is_own
    return [
        *blocks,
        Paragraph(f"The trial with the best value, trained again{'' if is_own else ' and scored on the test cases'}:"),
        Code(commands, "sh"),
    ]


def _facts(chapter: StudyData) -> list[str]:
    record, spec, found = chapter.record, chapter.spec, chapter.environment
    resources = record.resources
    started = [row["started"] for row in chapter.attempts if row["started"]]
    ended = [row["finished"] for row in chapter.attempts if row["finished"]]
    train = spec.base.train
    how = f"epochs, {train.optimizer}" if not train.is_own else f"reports of {train.entry or 'a program'}"
    data = (
        f"Data: {spec.base.dataset['name']}, fingerprint {str(resources.get('fingerprint') or 'unknown')[:16]}; "
        f"validation by {resources.get('protocol') or 'unknown'}."
        if spec.base.has_data
        else "Data: what the training reads; the study names none."
    )
    facts = [
        data,
        f"Training: at most {train.epochs} {how}; "
        f"sampler {spec.sampler['name']}, pruner {spec.pruner['name']}, seed {spec.seed}, {record.total} trials.",
    ]
    versions = found.get("versions", found)
    named = [f"{key} {versions[key]}" for key in ("tuner", "torch", "monai", "optuna") if versions.get(key)]
    device = found.get("device_name") or versions.get("device_name")
    if named or device:
        facts.append("Software and device: " + ", ".join([*named, *([str(device)] if device else [])]) + ".")
    if started and ended:
        facts.append(f"From {min(started)} to {max(ended)}.")
    return facts


def _caveats(chapter: StudyData, verdict: Verdict | None) -> list[str]:
    direction = chapter.record.objectives[0]["direction"]
    complete = [row for row in chapter.rows if row["state"] == "COMPLETE" and row["value"] is not None]
    if not complete:
        return []
    best = min(complete, key=lambda row: rank(row["value"], direction))
    return caveats(
        chapter.spec.space,
        chapter.record.objectives[0],
        chapter.rows,
        best,
        study_seed=chapter.spec.seed,
        protocol=chapter.record.resources.get("protocol"),
        verdict=verdict,
    )

"""The reference, made from what the program declares: commands, keys of a study file, REST paths, Python names."""

from collections.abc import Iterable, Mapping
from typing import Any

import typer

from docs.site.markdown import code, row, value_text
from tuner.config.confirm_section import ConfirmSection
from tuner.config.section import Section, section_options
from tuner.config.study import Budget, StopRule
from tuner.config.trial import TrainConfig
from tuner.data.catalog import DATASETS
from tuner.data.label_noise import OPTIONS as NOISE
from tuner.metrics.catalog import METRICS
from tuner.models.catalog import MODELS
from tuner.registry import Option
from tuner.search.catalog import PRUNERS, SAMPLERS


def pages() -> dict[str, str | bytes]:
    """Return the pages by their place below `docs/`."""
    return {
        "reference/commands.md": _commands(),
        "reference/study_file.md": _study_file(),
        "reference/rest.md": _rest(),
        "reference/python.md": _python(),
    }


def _commands() -> str:
    from tuner.cli.main import app

    group = typer.main.get_command(app)
    parts = [
        "# Commands",
        "Exit codes: 0 done, 1 it failed while running, 2 the request was wrong and nothing was changed, 3 a study "
        "ended without one successful trial, 130 interrupted. Every reporting command takes `--json`.",
    ]
    parts += _of_group("tuner", group)
    return "\n\n".join(parts) + "\n"


def _of_group(path: str, group: Any) -> list[str]:
    parts = []
    for name, command in group.commands.items():
        if command.hidden:
            continue
        full = f"{path} {name}"
        if hasattr(command, "commands"):
            parts += _of_group(full, command)
            continue
        context = typer.Context(command, info_name=full)
        usage = " ".join(command.collect_usage_pieces(context))
        parts += [f"## {full}", f"```text\n{full} {usage}\n```", _sentences(command.help)]
        rows = [record for parameter in command.get_params(context) if (record := parameter.get_help_record(context))]
        if rows:
            lines = ["| option | what it does |", "|---|---|"]
            parts.append("\n".join(lines + [row(code(flag), words) for flag, words in rows]))
    return parts


def _study_file() -> str:
    parts = [
        "# Study file",
        "The keys of a study file by section. Every one can be set on the command line: `--set train.epochs=20`. "
        "What is searched stands under `search:`, by the same names; the options of the losses stand on "
        "[their pages](../losses/index.md).",
        "```yaml\nname: organs\ndataset: {name: phantom}\nmodel: {name: unet, width: 8}\ntrain: {epochs: 4}\nsearch:\n"
        "  loss: [dice, focal, dice_cross_entropy]\n  train.lr: {low: 1.0e-4, high: 1.0e-2, log: true}\n"
        "budget: {trials: 20}\nconfirm: {top: 2, seeds: 3}\n```",
    ]
    sections: Mapping[str, type[Section]] = {
        "train": TrainConfig,
        "budget": Budget,
        "budget.stop": StopRule,
        "confirm": ConfirmSection,
    }
    for key, model in sections.items():
        parts += [f"## {key}", _section_table(model)]
    parts += ["## dataset", "`name` and its options; `validation` says which cases validate: [own data](../data.md)."]
    for entry in DATASETS.values():
        parts += [f"### dataset: {entry.name}", _sentences(entry.summary), _option_table(entry.options)]
    parts += ["### dataset.label_noise", "Spoils training labels only.", _option_table(NOISE)]
    for title, registry in (("model", MODELS), ("sampler", SAMPLERS), ("pruner", PRUNERS)):
        parts.append(f"## {title}")
        for entry in registry.values():
            parts += [f"### {title}: {entry.name}", _sentences(entry.summary), _option_table(entry.options)]
    lines = ["| metric | direction | unit | what it is |", "|---|---|---|---|"]
    lines += [row(code(m.name), m.direction, m.unit, m.summary) for m in METRICS.values()]
    parts += ["## objectives", "`[{metric: dice}]`; the first steers pruning and the leaderboard.", "\n".join(lines)]
    return "\n\n".join(filter(None, parts)) + "\n"


def _section_table(model: type[Section]) -> str:
    options = section_options(model)
    lines = ["| key | default | legal | what it is |", "|---|---|---|---|"]
    for name, field in model.model_fields.items():
        option = options.get(name)
        default = "" if field.is_required() else value_text(field.default)
        lines.append(row(code(name), code(default), option.legal() if option else "", field.description or ""))
    return "\n".join(lines)


def _option_table(options: Iterable[Option]) -> str:
    rows = [row(code(o.name), code(value_text(o.default)), o.legal(), o.summary) for o in options]
    if not rows:
        return ""
    lines = ["| option | default | legal | what it does |", "|---|---|---|---|"]
    return "\n".join(lines + rows)


def _rest() -> str:
    import tempfile

    from api.app import create_app
    from api.config import ServiceSettings
    from tuner.settings import Settings
    from tuner.storage.storage import Storage

    with tempfile.TemporaryDirectory() as folder:
        settings = Settings.resolve({}, storage=f"sqlite:///{folder}/tuner.db")
        with Storage.open(settings.storage, create=True) as store:
            document = create_app(store, ServiceSettings.resolve({}, settings)).openapi()
    parts = [
        "# REST",
        "Under `/api/v1`, described in full at `/openapi.json` of a running service. A typed client is "
        "[`tuner.client.Client`](python.md). Errors are `{code, message, hint, where}`.",
    ]
    lines = ["| method | path | what it does |", "|---|---|---|"]
    for path, methods in document["paths"].items():
        for method, found in methods.items():
            lines.append(row(method.upper(), code(path), found.get("summary", "")))
    parts.append("\n".join(lines))
    for path, methods in document["paths"].items():
        for method, found in methods.items():
            parts += [f"## {method.upper()} {path}", _sentences(found.get("description") or found.get("summary"))]
            rows = [row(code(p["name"]), p["in"], p.get("description", "")) for p in found.get("parameters", [])]
            if rows:
                parts.append("\n".join(["| parameter | in | what it is |", "|---|---|---|", *rows]))
    return "\n\n".join(filter(None, parts)) + "\n"


def _python() -> str:
    from tuner import losses

    parts = [
        "# Python",
        "What may be imported; everything else may move without notice ([releases](../releases.md)).",
        "## tuner",
        "::: tuner.study\n    options:\n      members: [run_study, load_study, Study]\n      show_root_heading: false",
        "## tuner.client",
        "::: tuner.client.Client",
        "## tuner.losses",
        f"Version {losses.api_version} of the interface. Every loss is a function of `tuner.losses.functional`, too.",
    ]
    names = [name for name in losses.__all__ if name not in ("functional", "api_version")]
    parts += [f"::: tuner.losses.{name}" for name in names]
    parts += ["## tuner.testing", "::: tuner.testing", "## tuner.errors", "::: tuner.errors.TunerError"]
    return "\n\n".join(parts) + "\n"


def _sentences(text: str | None) -> str:
    return (text or "").replace("\f", "\n").strip()

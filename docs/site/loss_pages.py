"""A page for every loss, made from its declaration, its recorded behaviour and the differences that were measured."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from docs.site.markdown import cell, code, row, value_text
from tuner.losses.catalog.registry import FAMILIES, LOSSES
from tuner.losses.spec import LossSpec
from tuner.registry import Option
from tuner.report.behavior_figure import draw_behavior

HERE = Path(__file__).parent
BEHAVIOUR = HERE.parents[1] / "tuner" / "losses" / "behaviour.json"
_ARXIV = re.compile(r"arXiv:(\d{4}\.\d{4,5})")
_OVERLAPPING = {
    "joint": "yes, `activation: sigmoid`: all classes in one formula",
    "per_class": "yes, `activation: sigmoid`: the mean over the classes of the loss of each against the rest",
    "": "no: it is defined by classes that exclude each other",
}


def pages() -> dict[str, str | bytes]:
    """Return the pages and pictures by their place below `docs/`."""
    differences: dict[str, list[str]] = yaml.safe_load((HERE / "differences.yaml").read_text(encoding="utf-8"))
    unknown = set(differences) - set(LOSSES)
    if unknown:
        raise ValueError(f"differences.yaml names losses that there are not: {sorted(unknown)}")
    recorded = json.loads(BEHAVIOUR.read_text(encoding="utf-8"))
    found: dict[str, str | bytes] = {"losses/index.md": _overview()}
    for entry in LOSSES.values():
        found[f"losses/{entry.name}.md"] = _page(entry, differences.get(entry.name, []))
        document = _curves(entry, recorded)
        found[f"losses/{entry.name}.svg"] = draw_behavior(document, recorded["drifts"]).to_svg()
    return found


def navigation() -> list[Any]:
    """Return the entries of the navigation."""
    families = {
        family: [{name: f"losses/{name}.md"} for name, entry in LOSSES.items() if entry.family == family]
        for family in FAMILIES
    }
    return ["losses/index.md", *({f"{family} losses".capitalize(): found} for family, found in families.items())]


def _overview() -> str:
    lines = [
        "# Losses",
        "",
        f"{len(LOSSES)} losses; those of the survey ([Azad et al. 2023](https://arxiv.org/abs/2312.05391)) are marked. "
        "Which one is best for a data set nobody can tell beforehand: that takes a [search](../tutorial.md).",
        "",
        "| loss | family | survey | what it is | overlapping classes | soft labels |",
        "|---|---|---|---|---|---|",
    ]
    for entry in LOSSES.values():
        survey, soft = ("yes" if flag else "" for flag in (entry.survey, entry.soft_labels))
        overlapping = (entry.multilabel or "").replace("_", " ")
        link = f"[{entry.name}]({entry.name}.md)"
        lines.append(f"| {link} | {entry.family} | {survey} | {cell(entry.summary)} | {overlapping} | {soft} |")
    return "\n".join(lines) + "\n"


def _page(entry: LossSpec, differences: list[str]) -> str:
    name = entry.name
    paper = _ARXIV.sub(r"[arXiv:\1](https://arxiv.org/abs/\1)", entry.paper)
    parts = [
        f"# {name}",
        f"{entry.summary[0].upper()}{entry.summary[1:]}. A {entry.family} loss{', one of the survey' * entry.survey}.",
        f'```text title="formula"\n{entry.formula}\n```',
        f"**Paper.** {paper}.",
        f"**Helps with** {entry.good_for}.",
        f"**Hurts with** {entry.bad_for}.",
        f"**Overlapping classes** {_OVERLAPPING[entry.multilabel or '']}. "
        f"**Soft labels** {'yes' if entry.soft_labels else 'no'}. "
        f"**Needs** {', '.join(entry.needs) or 'logits and labels only'}.",
    ]
    if not entry.standalone:
        parts.append("It never stands alone: what is trained is `base + weight * loss`.")
    parts += ["## Options", _options(entry)]
    if entry.presets:
        parts += ["## Presets", *(f"- `preset: {key}`: {_pairs(chosen)}" for key, chosen in entry.presets.items())]
    parts += ["## In a study", _yaml(entry), "## In a loop of your own", _python(entry)]
    parts += [
        "## Behaviour",
        f"What the loss says when a prediction becomes worse step by step; two circles, a large and a small one. "
        f"`tuner losses {name} --probe` prints the numbers, and the gradients.",
        f"![Behaviour of {name}]({name}.svg)",
    ]
    if differences:
        parts += ["## Beside other implementations", "\n".join(f"- {line}" for line in differences)]
    return "\n\n".join(parts) + "\n"


def _options(entry: LossSpec) -> str:
    if not entry.options:
        return "None."
    lines = ["| option | default | legal | searched | what it does |", "|---|---|---|---|---|"]
    for option in entry.options:
        searched = _searched(option)
        lines.append(row(code(option.name), code(value_text(option.default)), option.legal(), searched, option.summary))
    return "\n".join(lines)


def _searched(option: Option) -> str:
    search = option.search
    if search is None:
        return ""
    if search.choices is not None:
        return ", ".join(value_text(choice) for choice in search.choices)
    return f"{search.low:g} to {search.high:g}{', log' if search.log else ''}"


def _yaml(entry: LossSpec) -> str:
    lines = ["search:", f"  loss: [{entry.name}, dice_cross_entropy]"]
    ranged = next((o for o in entry.options if o.search is not None and o.search.choices is None), None)
    if ranged is not None and ranged.search is not None:
        ends = f"low: {ranged.search.low:.10g}, high: {ranged.search.high:.10g}"
        log = ", log: true" if ranged.search.log else ""
        lines.append(f"  loss.{entry.name}.{ranged.name}: {{{ends}{log}}}  # what is searched if nothing is said")
    return "```yaml\ndataset: {name: phantom}\n" + "\n".join(lines) + "\n```"


def _python(entry: LossSpec) -> str:
    ranged = next((o for o in entry.own_options if o.type == "float" and o.default is not None), None)
    option = f", {ranged.name}={ranged.default!r}" if ranged else ""
    made = (
        f'loss = losses.create("{entry.name}"{option}{_required(entry)})  # an nn.Module: value = loss(logits, target)'
    )
    return f"```python\nfrom tuner import losses\n\n{made}\n```"


def _required(entry: LossSpec) -> str:
    """Return the arguments without which a loss cannot be created; the values are those of two classes."""
    from tuner import losses

    for argument in ({}, {"class_frequencies": [0.9, 0.1]}, {"num_classes": 2}):
        try:
            losses.create(entry.name, **argument)
        except losses.LossInputError:
            continue
        return "".join(f", {key}={value}" for key, value in argument.items())
    raise ValueError(f"{entry.name} cannot be created from its options")


def _curves(entry: LossSpec, recorded: Mapping[str, Any]) -> dict[str, Any]:
    values: Mapping[str, list[float]] = recorded["losses"][entry.name]
    curves = [
        {
            "drift": drift["name"],
            "object": size,
            "amounts": drift["amounts"],
            "values": values[f"{drift['name']}.{size}"],
        }
        for drift in recorded["drifts"]
        for name in [drift["name"]]
        for size in ("large", "small")
    ]
    return {"name": entry.name, "family": entry.family, "curves": curves}


def _pairs(options: Mapping[str, Any]) -> str:
    return ", ".join(f"`{key}` {value_text(value)}" for key, value in options.items())

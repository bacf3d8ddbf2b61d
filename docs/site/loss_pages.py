"""A page for every loss, made from its declaration, its recorded behaviour and the differences that were measured."""

import json
import re
from collections.abc import Mapping
from inspect import cleandoc
from pathlib import Path
from textwrap import dedent
from typing import Any

import yaml

from docs.site.markdown import cell, code, row, value_text
from tuner.losses.catalog.registry import FAMILIES, LOSSES
from tuner.losses.spec import LossSpec
from tuner.registry import Option, load
from tuner.report.behavior_figure import draw_behavior

HERE = Path(__file__).parent
BEHAVIOUR = HERE.parents[1] / "tuner" / "losses" / "behaviour.json"
_DOI = re.compile(r"doi:(10\.[^\s;,]+)")
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
    paper = _DOI.sub(r"[doi:\1](https://doi.org/\1)", _ARXIV.sub(r"[arXiv:\1](https://arxiv.org/abs/\1)", entry.paper))
    parts = [
        f"# {name}",
        f"{entry.summary[0].upper()}{entry.summary[1:]}. A {entry.family} loss{', one of the survey' * entry.survey}.",
        f'```text title="formula"\n{entry.formula}\n```',
        f"**Paper.** {paper}. **Source.** `{entry.fn.replace(':', '.')}`.",
        f"**Helps with** {entry.good_for}.",
        f"**Hurts with** {entry.bad_for}.",
        f"**Overlapping classes** {_OVERLAPPING[entry.multilabel or '']}. "
        f"**Soft labels** {'yes' if entry.soft_labels else 'no'}. "
        f"**Needs** {', '.join(entry.needs) or 'logits and labels only'}.",
    ]
    if not entry.standalone:
        parts.append("It never stands alone: what is trained is `base + weight * loss`.")
    parts += ["## Definition", _definition(entry), "## Options", _options(entry)]
    if entry.presets:
        parts += ["## Presets", *(f"- `preset: {key}`: {_pairs(chosen)}" for key, chosen in entry.presets.items())]
    parts += ["## In a study", _yaml(entry), "## In a loop of your own", _python(entry), _takes(entry)]
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


_SYMBOLS = (
    "V are the pixels that count, z the logits, p their probabilities, t the label as 0 and 1; TP, P and T are the "
    "sums over V of p t, p and t, FP = P - TP, FN = T - TP."
)


def _definition(entry: LossSpec) -> str:
    """Return what the function says of itself: the formula in full, its range, its source, how it differs."""
    parts = [_paragraph(part) for part in cleandoc(load(entry.fn).__doc__).split("\n\n")]
    return "\n\n".join([*parts, _SYMBOLS])


def _paragraph(text: str) -> str:
    if text.startswith("    "):
        return f"```text\n{dedent(text)}\n```"
    # what stands in backticks is literal already
    parts = text.split("`")
    parts[::2] = [re.sub(r"([*_])", r"\\\1", part).replace("<", "&lt;") for part in parts[::2]]
    return _ARXIV.sub(r"[arXiv:\1](https://arxiv.org/abs/\1)", "`".join(parts))


def _python(entry: LossSpec) -> str:
    """Return a call whose numbers are the same everywhere, with the value it gives, to compare other code with."""
    ranged = next((o for o in entry.own_options if o.type == "float" and o.default is not None), None)
    option = f", {ranged.name}={ranged.default!r}" if ranged else ""
    lines = [
        "import torch",
        "from tuner import losses",
        "",
        f'loss = losses.create("{entry.name}"{option}, ignore_index=255{_required(entry)})  # an nn.Module',
        "logits = torch.sin(0.7 * torch.arange(2 * 3 * 32 * 32)).reshape(2, 3, 32, 32).requires_grad_()",
        "target = (torch.arange(32) // 11).repeat(2, 32, 1)  # [B, H, W]: stripes of the classes 0, 1, 2",
    ]
    given = ""
    if "features" in entry.needs:
        lines.append("features = torch.cos(0.3 * torch.arange(2 * 8 * 32 * 32)).reshape(2, 8, 32, 32).requires_grad_()")
        given = ", features=features"
    if "classifier_weight" in entry.needs:
        lines.append("weight = torch.eye(3, 8)  # of the classifier")
        given += ", classifier_weight=weight"
    lines.append(f"value = loss(logits, target{given})")
    if entry.name not in TRAINS_FIRST:
        names: dict[str, Any] = {}
        exec("\n".join(lines), names)  # noqa: S102 - the lines above
        lines[-1] += f"  # {names['value'].item():.4f}"
    return "```python\n" + "\n".join([*lines, "value.backward()"]) + "\n```"


TRAINS_FIRST = frozenset({"inverse_form"})
"""Losses that train a network of their own for seconds before they give a value."""


def _required(entry: LossSpec) -> str:
    """Return the arguments without which a loss cannot be created; the values are those of three classes."""
    from tuner import losses

    for argument in ({}, {"class_frequencies": [0.9, 0.08, 0.02]}, {"num_classes": 3}):
        try:
            losses.create(entry.name, **argument)
        except losses.LossInputError:
            continue
        return "".join(f", {key}={value}" for key, value in argument.items())
    raise ValueError(f"{entry.name} cannot be created from its options")


def _takes(entry: LossSpec) -> str:
    """Return the table of what a loss is given, returns and raises."""
    targets = ["class ids `[B, H, W]` or `[B, 1, H, W]`, integers"]
    if entry.soft_labels:
        targets.append("probabilities `[B, C, H, W]`, floats that add up to 1 over the classes")
    if entry.multilabel:
        soft = ", or floats between them" if entry.soft_labels else ""
        targets.append(f'with `activation="sigmoid"` `[B, C, H, W]` of 0 and 1{soft}')
    counts = "`[B, H, W]`: True on pixels that count" + ("; or floats, how much they count" * entry.soft_labels)
    alone = "of every pixel, `[B, H, W]`" if entry.family == "pixel" else "of every image by itself, `[B]`"
    rows = [
        ("`logits`", "`[B, C, H, W]` or `[B, C, D, H, W]`, raw scores; one channel is class 1 against class 0"),
        ("`target`", "; ".join(targets)),
        ("`ignore_index`", "the label of pixels that count nowhere; none unless it is given"),
        ("`mask`", counts),
        *((f"`{name}`", _INPUTS[name]) for name in entry.needs if name in _INPUTS),
    ]
    if any(option.name == "classes" for option in entry.options):
        rows.append(("`class_weights`", "how much each class counts in the mean over classes, of `create`"))
    rows += [
        ("value", f'a scalar in float32 (float64 of double logits); with `reduction="none"` that {alone}'),
        ("raises", _RAISES),
    ]
    return "\n".join(["| what | shape and meaning |", "|---|---|", *(row(*pair) for pair in rows)])


_MAP = "a map of the target, made where it is left out: "
_INPUTS = {
    "class_frequencies": "the share of each class in the training data, of `create`, where an option weighs by it",
    "own_distance": f"{_MAP}`[B, H, W]`, the distance to the nearest pixel of another class",
    "signed_distance": f"{_MAP}`[B, C, H, W]`, the distance to each class, negative inside it",
    "label_border_distance": f"{_MAP}`[B, H, W]`, the distance to the nearest border of labels",
    "skeleton": f"{_MAP}`[B, H, W]`, the pixels of the centre lines",
    "objects": f"{_MAP}`[B, H, W]`, the number of the object of each pixel, 0 for none",
    "labelled": "`[B, C]`, which classes are labelled in each image; left out, those that occur in it",
    "features": "`[B, F, H, W]`, what the classifier of the network is given",
    "classifier_weight": "`[C, F]` of that classifier; `classifier_bias` `[C]` where it has one",
    "boundary_head": "scores of the network's own head for distances, instead of `features`",
}
_RAISES = (
    "`UnknownNameError` for an option that there is not, `SpecError` for a value that is not legal (both of `create`); "
    "`LossInputError` for shapes, types and labels that do not fit, with what was found and what would be right. On a "
    "GPU labels are looked at with `validate=True` only"
)


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

"""The proposed study as a commented file: every value with what it was chosen for, every loss with its reason."""

import shlex
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from tuner.data.checks import Findings
from tuner.launch.loss_choice import TASKS, LossChoice, figures
from tuner.launch.study_proposal import Proposal
from tuner.losses.catalog.registry import LOSSES, competing_name

_WIDTH = 100
_NOTES_SHOWN = 6


def launch_words(file: Path, proposal: Proposal, data_root: Path | None) -> list[str]:
    """Return the words of the command that starts the study."""
    words = ["tuner", "launch", str(file)]
    words += ["--data-root", str(data_root)] if data_root is not None else []
    words += ["--workers", str(proposal.workers)]
    return words if proposal.wish.devices == "auto" else [*words, "--devices", proposal.wish.devices]


def study_text(proposal: Proposal, findings: Findings, command: Sequence[str], hints: Sequence[str]) -> str:
    """Return the text of the study file.

    Args:
        proposal: What was proposed.
        findings: What the check of the data set told.
        command: The words that start the study.
        hints: Lines on the `dataset` section.
    """
    content = proposal.content
    parts = [
        comment(
            f"Written by `tuner init` for {content['dataset'].get('path', content['dataset']['name'])}. Every value "
            "may be changed until the study is launched, by:"
        ),
        f"#   {shlex.join(command)}",
        f"name: {flow(content['name'])}",
        "",
        _data_comment(proposal, findings, hints),
        f"dataset: {flow(content['dataset'])}",
        "",
        comment(f"{_size_words(proposal)} `tuner models` lists the networks."),
        f"model: {flow(content['model'])}",
        "",
        comment(_time_words(proposal)),
        f"train: {flow(content['train'])}",
        "",
        losses_text(proposal.losses, content["search"]),
        "",
        comment(f"The masks are for {proposal.task}: {TASKS[proposal.task][1]} (--task {'|'.join(TASKS)})."),
        f"objectives: {flow(content['objectives'])}",
        f"sampler: {flow(content['sampler'])}",
        f"pruner: {flow(content['pruner'])}",
        f"budget: {flow({**content['budget'], 'timeout': _minutes(proposal.search_seconds)})}",
        f"seed: {content['seed']}",
        "",
        comment(
            f"When the search is over, the best trial{_of(proposal.budget.top)} and "
            f"dice_cross_entropy with its published options are trained again with {proposal.budget.seeds} fresh seeds "
            "each: only that says whether they differ (tuner verdict NAME)."
        ),
        f"confirm: {flow(content['confirm'])}",
    ]
    return "\n".join(parts) + "\n"


def _data_comment(proposal: Proposal, findings: Findings, hints: Sequence[str]) -> str:
    train, held_out, tests = proposal.profile.cases
    samples = proposal.profile.samples
    what = f"{train} training and {held_out} validation cases ({samples[0]} and {samples[1]} samples)"
    tested = f", {tests} test cases, which no trial sees" if tests else ", no test cases"
    lines = [comment(f"The data: {what}{tested}.")]
    lines += [f"#   {row.text()}" for row in findings.classes[:20]]
    lines += [comment(f"{name}: {text}.", "  ") for name, text in _traits(proposal)]
    lines += [comment(f"note: {note}", "  ") for note in (*proposal.notes, *findings.notes[:_NOTES_SHOWN])]
    lines += [comment(hint) for hint in hints]
    return "\n".join(lines)


def _traits(proposal: Proposal) -> list[tuple[str, str]]:
    profile = proposal.profile
    found = [("imbalance", f"the commonest class has {figures(profile.imbalance)} times the pixels of the rarest one")]
    if profile.empty:
        found.append(("empty", f"{100 * profile.empty:.0f} % of the samples hold no class that is scored"))
    for row in profile.scored[:20]:
        if row.share:
            shape = f"{figures(row.objects)} objects a sample, median {row.size:.0f} px, {row.width:.3g} px wide"
            found.append((row.name, f"{100 * row.share:.3g} %, {shape}, thinness {figures(row.thinness)}"))
    return found


def _size_words(proposal: Proposal) -> str:
    peaks = [m.memory for m in proposal.measured.values() if m.memory is not None]
    memory = f" A worker held at most {max(peaks) / 2**20:.0f} MiB." if peaks else ""
    return f"Size: {proposal.setup.why}.{memory}"


def _time_words(proposal: Proposal) -> str:
    steps = {name: m.step_s for name, m in proposal.measured.items() if m.step_s is not None}
    device = proposal.machine.slots[0]
    spread = ""
    if steps:
        low, high = min(steps, key=steps.__getitem__), max(steps, key=steps.__getitem__)
        spread = f" (a step with {low} {_ms(steps[low])}"
        spread += f", with {high} {_ms(steps[high])}; {len(steps)} losses were measured)" if low != high else ")"
    whole = f"{proposal.budget.trials} trials, half of them pruned, and the confirmation"
    over = (
        "" if proposal.seconds <= proposal.wish.seconds else ": more than the time given; nothing smaller is a search"
    )
    return (
        f"Time: an epoch of {proposal.steps} steps and a validation takes about {_seconds(proposal.epoch_s)} on "
        f"{device}{spread}; {whole} about {_seconds(proposal.seconds)} with {proposal.workers} "
        f"worker{'s' * (proposal.workers > 1)}, of {_seconds(proposal.wish.seconds)}{over}."
    )


def losses_text(losses: Sequence[LossChoice], search: Mapping[str, Any]) -> str:
    """Return the section `search`: the losses that compete, those that were left out as comments, then the rest."""
    kept, left = [c for c in losses if c.is_in], [c for c in losses if not c.is_in]
    widest, wide = (max((len(competing_name(c.loss)) for c in half), default=0) for half in (kept, left))
    lines = [
        comment(
            f"What competes: {len(kept)} of {len(LOSSES)} losses, each with its options (tuner losses NAME). Why: what "
            "a loss was made for, and what was measured of the data; no claim that it is better here."
        ),
        "search:",
        "  loss:",
        *(f"    - {competing_name(c.loss):{widest}}  # {c.why}" for c in kept),
        "    # Left out; take the # away, and give the study more trials, to let one compete:",
        *(f"    # - {competing_name(c.loss):{wide}}  # {c.why}" for c in left),
    ]
    lines += [f"  {key}: {flow(value)}" for key, value in search.items() if key != "loss"]
    return "\n".join(lines)


def comment(text: str, indent: str = "") -> str:
    """Return a text as lines of comment."""
    return textwrap.fill(
        text,
        _WIDTH,
        initial_indent=f"# {indent}",
        subsequent_indent=f"# {indent}{'  ' if indent else ''}",
        break_long_words=False,
        break_on_hyphens=False,
    )


def flow(value: Any) -> str:
    """Write a value in one line of YAML."""
    text = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, allow_unicode=True, width=10**6)
    return text.removesuffix("...\n").strip()


def _of(losses: int) -> str:
    return f"s of {losses} losses" if losses > 1 else ""


def _minutes(seconds: float) -> str:
    return f"{max(1, round(seconds / 60))}m"


def _ms(seconds: float) -> str:
    return f"{1000 * seconds:.0f} ms"


def _seconds(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.3g} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.3g} h"

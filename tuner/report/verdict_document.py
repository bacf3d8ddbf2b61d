"""A verdict as a document: the answer, tables, figures, and the paragraph for a methods section."""

from collections.abc import Sequence

from tuner.analysis.pairwise_tests import POWER
from tuner.analysis.verdict import MIN_CASES, MIN_RUNS, ConfigurationResult, PairResult, Verdict, decimals, format_p
from tuner.report.blocks import Block, Heading, Paragraph, Picture, Points, Table
from tuner.report.verdict_figures import shown_pairs, verdict_figures

MINUS = "−"


def verdict_blocks(verdict: Verdict) -> list[Block]:
    """Return the blocks of a verdict, without a title: a document of its own, or the first part of a report."""
    first, *rest = verdict.text.splitlines()
    blocks: list[Block] = [Paragraph(first, strong=True)]
    if rest:
        blocks.append(Points(rest))
    blocks += [Heading("Configurations"), configuration_table(verdict)]
    if verdict.pairs:
        blocks += [Heading("Pairs"), pair_table(verdict)]
    blocks.append(Heading("Figures"))
    for figure in verdict_figures(verdict):
        svg = figure.drawing.to_svg()
        blocks.append(Picture(svg, "image/svg+xml", figure.caption, figure.drawing.title))
    if verdict.detectable:
        blocks += [Heading("How many runs"), detectable_table(verdict)]
    blocks += [Heading("For a methods section"), Paragraph(methods_paragraph(verdict))]
    return blocks


def verdict_section(name: str, verdict: Verdict) -> list[Block]:
    """Return the first part of a study's report: the verdict of its confirmation, as tables, figures and words."""
    blocks: list[Block] = [Heading(f"Verdict on {name}"), configuration_table(verdict)]
    if verdict.pairs:
        blocks.append(pair_table(verdict))
    for figure in verdict_figures(verdict):
        svg = figure.drawing.to_svg()
        blocks.append(Picture(svg, "image/svg+xml", figure.caption, figure.drawing.title))
    return [*blocks, Paragraph("For a methods section:"), Paragraph(methods_paragraph(verdict))]


def configuration_table(verdict: Verdict) -> Table:
    """Return a row for each configuration, best first."""
    digits = decimals(verdict)
    searched = any(c.seen_in_search is not None for c in verdict.configurations)
    timed = any(c.seconds is not None for c in verdict.configurations)
    measured = any(c.memory_bytes is not None for c in verdict.configurations)
    columns = [
        "configuration",
        "mean",
        "95 % interval",
        "sd of runs",
        "runs",
        "collapsed",
        "failed",
        "best with",
        "groups",
    ]
    columns += ["seen in search"] * searched + ["seconds"] * timed + ["memory"] * measured
    rows = []
    for c in verdict.configurations:
        row = [
            c.name,
            number(c.mean, digits),
            interval(c.interval, digits),
            number(c.sd_runs, digits),
            str(c.runs),
            str(c.runs_collapsed),
            str(c.runs_failed),
            "-" if c.probability_best is None else f"{100 * c.probability_best:.0f} %",
            c.groups or "-",
        ]
        row += [number(c.seen_in_search, digits)] * searched + [number(c.seconds, 0)] * timed
        row += [memory(c)] * measured
        rows.append(row)
    caption = (
        f"Mean {verdict.metric} over runs and cases. Configurations that share a letter are not told apart. "
        "“Best with” is the share of bootstrap draws in which a configuration has the best mean: it describes, and "
        "claims nothing."
    )
    if measured:
        caption += f" {MEMORY_NOTE}"
    return Table(columns, rows, caption)


MEMORY_NOTE = (
    "Memory is the most that a training has held: on a CUDA device its tensors, on a CPU the whole process with "
    "libraries and data."
)


def memory(result: ConfigurationResult) -> str:
    """Return the most memory that a training of a configuration has held, in MiB and with what was measured."""
    if result.memory_bytes is None:
        return "-"
    return f"{result.memory_bytes / 2**20:.0f} MiB{' (process)' if result.memory_of == 'process' else ''}"


def pair_table(verdict: Verdict, limit: int = 200) -> Table:
    """Return a row for each pair, or for those that `shown_pairs` chooses."""
    digits = decimals(verdict)
    pairs = shown_pairs(verdict, limit)
    rows = [
        [
            pair.a,
            pair.b,
            pair_verdict(pair),
            number(pair.difference, digits, signed=True),
            interval(pair.interval, digits),
            interval(pair.interval_adjusted, digits),
            format_p(pair.p),
            format_p(pair.p_adjusted),
        ]
        for pair in pairs
    ]
    columns = ("a", "b", "verdict", "a − b", "95 % interval", "for all pairs together", "p", "adjusted p")
    caption = f"Paired differences of {verdict.metric}; p adjusted by Holm, the intervals for all pairs by Bonferroni."
    if len(pairs) < len(verdict.pairs):
        caption += f" {len(verdict.pairs) - len(pairs)} further pairs are in the JSON document only."
    return Table(columns, rows, caption, words=3)


def detectable_table(verdict: Verdict) -> Table:
    """Return the differences that so many runs find."""
    digits = decimals(verdict)
    rows = [[str(runs), number(value, digits)] for runs, value in sorted(verdict.detectable.items())]
    caption = (
        f"True differences that are found with a probability of {100 * POWER:.0f} % by so many runs on these cases, "
        "from the components of variance seen here: an estimate."
    )
    return Table(("runs", "difference"), rows, caption)


def pair_verdict(pair: PairResult) -> str:
    """Return the verdict of a pair in words."""
    words = {"a_better": f"{pair.a} is better", "b_better": f"{pair.b} is better"}.get(pair.verdict, pair.verdict)
    if pair.within_margin:
        words += ", within the margin"
    return f"{words} ({pair.reason.replace('_', ' ')})" if pair.reason else words


def methods_paragraph(verdict: Verdict) -> str:
    """Return what to write in the methods section of a paper, with the numbers of this verdict."""
    count = len(verdict.configurations)
    runs = max(c.runs + c.runs_failed for c in verdict.configurations)
    cases = verdict.configurations[0].cases
    scope = {
        "new trainings and new cases": "Runs and cases were treated as random; claims are about new trainings on the "
        "same training set and new cases.",
        "new trainings": "Runs were treated as random and cases as fixed; claims are about new trainings on the same "
        "training set, judged on these cases.",
        "nothing": f"No claim is made: it needs {MIN_RUNS} runs, and {MIN_CASES} cases where it is about new cases.",
    }[verdict.generalises_to]
    sentences = [
        f"Each of {count} configurations was trained {runs} times; run r used the same seed, division of the data and "
        f"order of the data for every configuration. {verdict.metric} was scored on the same {cases} cases.",
        *_selection(verdict),
        scope,
        "Paired differences were analysed by the variance components of the two-way layout run × case of multi-reader "
        "multi-case studies (Dorfman et al. 1992; Obuchowski and Rockette 1995; Hillis 2007), with critical values by "
        "Banerjee's (1960) bound instead of estimated degrees of freedom.",
        f"p values of all {len(verdict.pairs)} pairs were adjusted by Holm's method (family-wise error "
        f"{verdict.alpha:g}).",
    ]
    if verdict.alpha_of_look != verdict.alpha:
        look = "" if verdict.look is None else f" {verdict.look}"
        sentences.append(f"All looks at the data share that error; look{look} spent {verdict.alpha_of_look:.3g} of it.")
    if verdict.margin is not None:
        sentences.append(
            f"Equivalence was claimed where the interval of confidence {1 - 2 * verdict.alpha_of_look:.3g} lay within "
            f"±{verdict.margin:g} (two one-sided tests)."
        )
    if any(c.runs_collapsed for c in verdict.configurations):
        sentences.append("Runs that collapsed were scored and kept; no claim rests on them alone.")
    if verdict.left_out.cases:
        sentences.append(f"{verdict.left_out.cases} cases on which the metric is undefined were left out for all.")
    return " ".join(sentences)


def _selection(verdict: Verdict) -> list[str]:
    """Say how the configurations of a confirmation were chosen; nothing where the table came from elsewhere."""
    chosen = [c for c in verdict.configurations if c.trial is not None]
    if not chosen:
        return []
    rest = len(verdict.configurations) - len(chosen)
    beside = f", and {rest} with published options that was not tried there" if rest else ""
    return [
        f"{len(chosen)} of them were chosen by their validated values in a hyperparameter search{beside}; all were "
        "then trained with seeds that no trial of the search had used, so that the choice does not bias their means."
    ]


def number(value: float | None, digits: int, *, signed: bool = False) -> str:
    """Write a number with so many decimals."""
    if value is None:
        return "-"
    return f"{value:{'+' if signed else ''}.{digits}f}".replace("-", MINUS)


def interval(ends: Sequence[float] | None, digits: int) -> str:
    """Write an interval."""
    return "-" if ends is None else f"{number(ends[0], digits)} to {number(ends[1], digits)}"

"""`compare`: which configurations of a table of scores differ, from whatever program the scores come."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tuner.cli import output
from tuner.cli.help import PanelCommand
from tuner.cli.options import JsonOption

if TYPE_CHECKING:
    from tuner.analysis.score_table import Direction
    from tuner.analysis.verdict import Verdict


_PANEL = "Results"
_FORMS = (".html", ".htm", ".png", ".svg")
_CASES = ("random", "fixed")
_MAX_ROWS = 15


def register(app: typer.Typer) -> None:
    """Enter the commands of this module."""
    app.command("compare", rich_help_panel=_PANEL, cls=PanelCommand)(compare)


def compare(
    scores: Annotated[
        Path,
        typer.Argument(
            metavar="SCORES.csv",
            help="Columns configuration, run, case, value; a row for each score.",
            show_default=False,
        ),
    ],
    cases: Annotated[
        str,
        typer.Option(
            "--cases",
            metavar="random|fixed",
            help="random: claims are about new cases too; fixed: about these, such as those that chose the candidates.",
        ),
    ] = "random",
    alpha: Annotated[float, typer.Option("--alpha", metavar="A", help="Family-wise error over all pairs.")] = 0.05,
    margin: Annotated[
        float | None,
        typer.Option(
            "--margin",
            metavar="M",
            help="Smaller differences do not matter. Default: 0.01 for metrics that lie in 0…1, else none.",
            show_default=False,
        ),
    ] = None,
    metric: Annotated[str, typer.Option("--metric", metavar="NAME", help="What the values are.")] = "dice",
    lower_is_better: Annotated[
        bool | None,
        typer.Option(
            "--lower-is-better/--higher-is-better",
            help="Direction of the metric; known for those of the product.",
            show_default=False,
        ),
    ] = None,
    leave_out_undefined: Annotated[
        bool,
        typer.Option(
            "--leave-out-undefined",
            help="An empty value or NaN leaves its case out for all configurations; refused otherwise.",
        ),
    ] = False,
    path: Annotated[
        Path | None,
        typer.Option("-o", "--output", metavar="FILE", help="FILE.html, FILE.png or FILE.svg.", show_default=False),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Judge scores from anywhere: which configurations differ, by how much, and what that generalises to."""
    from tuner.errors import RequestError, UnknownNameError

    if cases not in _CASES:
        raise UnknownNameError(kind="kind of cases", name=cases, known=_CASES, where="--cases")
    if path is not None and path.suffix.lower() not in _FORMS:
        raise RequestError(
            f"a verdict is written as .html, .png or .svg, not as {path.suffix or 'a file without an ending'!r}.",
            hint=f"For example: -o {path.with_suffix('.html').name}",
            where="-o",
        )
    metric, direction, unit = _metric(metric, lower_is_better)
    from tuner.analysis.score_table import read_score_table
    from tuner.analysis.verdict import default_margin, judge

    table = read_score_table(
        scores, metric=metric, direction=direction, unit=unit, leave_out_undefined=leave_out_undefined
    )
    verdict = judge(
        table,
        random_cases=cases == "random",
        alpha=alpha,
        margin=default_margin(metric) if margin is None else margin,
    )
    if path is not None:
        from tuner.analysis.export import write_export

        replaced = write_export(path, render_verdict(verdict, path.suffix.lower(), scores.name))
        output.tell(f"{'Replaced' if replaced else 'Wrote'} {path}")
    if as_json:
        output.put_json(verdict.as_dict())
    else:
        put_verdict(verdict)


def put_verdict(verdict: "Verdict") -> None:
    """Print a verdict: its words, the configurations, the pairs."""
    from tuner.report.verdict_document import configuration_table, pair_table
    from tuner.report.verdict_figures import shown_pairs

    output.put(verdict.text)
    output.put()
    configurations = configuration_table(verdict)
    output.put_table(configurations.columns, _texts(configurations.rows), right=configurations.columns[1:8])
    if verdict.pairs:
        pairs = pair_table(verdict, _MAX_ROWS)
        output.put()
        output.put_table(pairs.columns, _texts(pairs.rows), right=("a − b", "p", "adjusted p"))
        rest = len(verdict.pairs) - len(shown_pairs(verdict, _MAX_ROWS))
        if rest:
            output.put(f"… and {rest} further pairs: --json has them all.")


def render_verdict(verdict: "Verdict", ending: str, source: str) -> str | bytes:
    """Return a verdict as the content of a file: .html, .png or .svg."""
    if ending in (".png", ".svg"):
        from tuner.report.verdict_figures import draw_verdict

        drawing = draw_verdict(verdict)
        return drawing.to_png() if ending == ".png" else drawing.to_svg()
    from tuner.report.blocks import Heading
    from tuner.report.render import render_html
    from tuner.report.verdict_document import verdict_blocks

    title = f"Verdict on {source}"
    return render_html(title, [Heading(title, level=1), *verdict_blocks(verdict)])


def _metric(name: str, lower_is_better: bool | None) -> "tuple[str, Direction, bool]":
    """Return name, direction, and whether it lies in 0…1. Raises RequestError where the direction is not known."""
    from tuner.errors import RequestError, closest
    from tuner.metrics.catalog import METRICS

    known = METRICS[name] if name in METRICS else None  # noqa: SIM401 - `get` raises for an unknown name
    if known is None and lower_is_better is None:
        near = closest(name, METRICS)
        guess = f"Did you mean {near!r}? " if near else ""
        raise RequestError(
            f"whether higher or lower values of {name!r} are better is not known.",
            hint=f"{guess}Add --higher-is-better or --lower-is-better. Known: {', '.join(METRICS)}.",
            where="--metric",
        )
    direction: Direction = known.direction if known is not None else "maximize"
    if lower_is_better is not None:
        direction = "minimize" if lower_is_better else "maximize"
    if known is not None and direction != known.direction:
        raise RequestError(
            f"{'higher' if known.direction == 'maximize' else 'lower'} values of {name} are better.",
            hint="Give the metric another name if yours is another one.",
            where="--lower-is-better" if lower_is_better else "--higher-is-better",
        )
    return name, direction, known is not None and known.unit == "1"


def _texts(rows: object) -> list[list[str]]:
    return [list(row) for row in rows]  # type: ignore[attr-defined]

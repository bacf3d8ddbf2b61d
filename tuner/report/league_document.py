"""A league as a document: ranks with intervals, the critical difference, regrets of the published defaults."""

from tuner.analysis.league import League
from tuner.report.blocks import Block, Heading, Paragraph, Picture, Points, Table
from tuner.report.drawing import INK, SOFT, WIDTH, Circle, Drawing, Line, Scale, Text, horizontal_axis, short
from tuner.report.verdict_document import number

_LEFT, _RIGHT, _TOP, _ROW = 230, 200, 60, 28
_BAR = "#0072b2"


def league_blocks(league: League) -> list[Block]:
    """Return the blocks of a league with its title."""
    first, *rest = league.text.splitlines()
    blocks: list[Block] = [Heading("Losses over data sets", 1), Paragraph(first, strong=True), Points(rest)]
    caption = (
        "Dots: mean ranks; lines: 95 % intervals by bootstrap of data sets, and within each of runs and of random "
        "cases; small dots: single data sets. Losses that share a letter are not told apart."
    )
    blocks += [league_table(league), Picture(draw_league(league).to_svg(), "image/svg+xml", caption, "Mean ranks")]
    if league.left_out:
        blocks.append(Paragraph(f"Left out, for not all studies have judged them: {', '.join(league.left_out)}."))
    return blocks


def league_table(league: League) -> Table:
    """Return a row for each loss."""
    rows = [
        [
            item.loss,
            f"{item.mean_rank:.2f}",
            f"{item.rank_interval[0]:.2f} to {item.rank_interval[1]:.2f}",
            item.groups,
            number(item.regret_of_defaults, 4, signed=True),
            *(short(rank) for rank in item.ranks),
        ]
        for item in league.losses
    ]
    caption = (
        f"Ranks by mean {league.metric} over fresh runs. Regret of the published defaults: by how much the best trial "
        "of the search is better than they are, mean over data sets; the best of many values, so too large."
    )
    columns = ["loss", "mean rank", "95 % interval", "groups", "regret of defaults", *league.data_sets]
    return Table(columns, rows, caption)


def draw_league(league: League) -> Drawing:
    """Return a row for each loss on an axis of mean ranks, with the critical difference above."""
    drawing = Drawing("Mean ranks", height=_TOP + _ROW * len(league.losses) + 50)
    scale = Scale(1.0, float(len(league.losses)), _LEFT, WIDTH - _RIGHT)
    base = _TOP + _ROW * len(league.losses)
    drawing.add(Text(24, 20, f"Mean rank by {league.metric} over {len(league.data_sets)} data sets"))
    drawing.add(*horizontal_axis(scale, _TOP - 8, base, "mean rank, 1 is best"))
    if league.critical_difference is not None:
        end = min(scale(1 + league.critical_difference), WIDTH - 24.0)
        drawing.add(Line(scale(1), 40, end, 40, _BAR, 3))
        drawing.add(Text(end + 10, 44, f"critical difference {league.critical_difference:.2f}", colour=_BAR))
    for place, item in enumerate(league.losses):
        y = _TOP + _ROW * (place + 0.5)
        drawing.add(Text(_LEFT - 12, y + 4, item.loss, "end"))
        drawing.add(Line(scale(item.rank_interval[0]), y, scale(item.rank_interval[1]), y, INK, 2))
        drawing.add(*(Circle(scale(rank), y + 7, 2.5, SOFT) for rank in item.ranks))
        drawing.add(Circle(scale(item.mean_rank), y, 5, _BAR))
        drawing.add(Text(WIDTH - _RIGHT + 14, y + 4, f"{item.mean_rank:.2f}  {item.groups}"))
    return drawing

"""Figures: numbers that the store has thinned, and the Plotly JSON, table and CSV that are made of them.

`data` counts, `plots` and `parameter_plots` draw. plotly itself is loaded by browsers only.
"""

from tuner.figures.parameter_plots import (
    AblationPath,
    draw_ablation,
    draw_contour,
    draw_importance,
    draw_interactions,
    draw_parallel,
    draw_rank,
    draw_slice,
)
from tuner.figures.plots import (
    Figure,
    draw_curves,
    draw_edf,
    draw_history,
    draw_losses,
    draw_pareto,
    draw_timeline,
    empty_figure,
)

__all__ = [
    "AblationPath",
    "Figure",
    "draw_ablation",
    "draw_contour",
    "draw_curves",
    "draw_edf",
    "draw_history",
    "draw_importance",
    "draw_interactions",
    "draw_losses",
    "draw_parallel",
    "draw_pareto",
    "draw_rank",
    "draw_slice",
    "draw_timeline",
    "empty_figure",
]

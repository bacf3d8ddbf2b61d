"""Figures: numbers that the store has thinned, and the Plotly JSON, table and CSV that are made of them.

`numbers` counts, `parts` is what every figure is made of, `studies` and `parameters` draw. plotly itself is loaded by
browsers only.
"""

from tuner.figures.parameter_plots import draw_contour, draw_importance, draw_parallel, draw_slice
from tuner.figures.plots import Figure, draw_curves, draw_history, draw_losses, draw_pareto, draw_timeline, empty_figure

__all__ = [
    "Figure",
    "draw_contour",
    "draw_curves",
    "draw_history",
    "draw_importance",
    "draw_losses",
    "draw_parallel",
    "draw_pareto",
    "draw_slice",
    "draw_timeline",
    "empty_figure",
]

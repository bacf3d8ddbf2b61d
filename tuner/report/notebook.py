"""A study as HTML for a notebook: what is best, how the losses stand, and two figures; no script, no network."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from tuner.analysis.leaderboard import leaderboard
from tuner.report.charts import LearningCurve, Strip, draw_curves, draw_strips
from tuner.storage.storage import Storage

MAX_LOSSES = 15
MAX_CURVES = 6
CELL = 'style="text-align:left;padding:2px 10px 2px 0"'
NUMBER = 'style="text-align:right;padding:2px 10px 2px 0"'


def study_html(store: Storage, name: str, statement: str) -> str:
    """Return a study as a fragment of HTML; `statement` says what may be said of its best value."""
    status = store.queries.status(name)
    objective = status["objectives"][0]
    rows = store.queries.trials(name)
    standings = [s for s in leaderboard(rows, objective["direction"]) if s.best is not None]
    parts = [_head(status, statement)]
    if standings:
        table = [(s.loss, s.family, s.best, s.median, s.complete, s.pruned, s.failed, s.best_trial) for s in standings]
        titles = ("loss", "family", f"best {objective['metric']}", "median", "complete", "pruned", "failed", "trial")
        parts.append(_table(titles, table[:MAX_LOSSES]))
        if len(table) > MAX_LOSSES:
            parts.append(f"<p>The first {MAX_LOSSES} of {len(table)} losses.</p>")
        parts += [
            _strips(rows, standings[:MAX_LOSSES], objective["metric"]),
            _curves(store, name, standings, objective),
        ]
    return f"<div>{''.join(parts)}</div>"


def _head(status: Mapping[str, Any], statement: str) -> str:
    counts = status["trials"]
    states = ", ".join(
        f"{counts[state]} {state}" for state in ("complete", "pruned", "failed", "running", "waiting") if counts[state]
    )
    about = " · ".join(filter(None, (status["dataset"], status["model"], status["phase"])))
    return (
        f"<h3>{escape(status['name'])}</h3><p>{escape(about)} · {counts['total']} trials: {escape(states)}</p>"
        f"<p>{escape(statement)}</p>"
    )


def _table(titles: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    head = "".join(f"<th {CELL if i < 2 else NUMBER}>{escape(title)}</th>" for i, title in enumerate(titles))
    body = "".join(f"<tr>{''.join(_cell(value) for value in row)}</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _cell(value: Any) -> str:
    if isinstance(value, str):
        return f"<td {CELL}>{escape(value)}</td>"
    text = "" if value is None else f"{value:.4f}" if isinstance(value, float) else str(value)
    return f"<td {NUMBER}>{text}</td>"


def _strips(rows: Sequence[Mapping[str, Any]], standings: Sequence[Any], metric: str) -> str:
    values: dict[str, list[float]] = {}
    for row in rows:
        if row["value"] is not None:
            values.setdefault(str(row["loss"]), []).append(row["value"])
    strips = [Strip(s.loss, s.family, values.get(s.loss, []), s.default, s.best) for s in standings]
    return draw_strips(strips, metric).to_svg().decode()


def _curves(store: Storage, name: str, standings: Sequence[Any], objective: Mapping[str, str]) -> str:
    lines = []
    for standing in standings[:MAX_CURVES]:
        epochs = store.queries.epochs(name, standing.best_trial)
        points = [(row["epoch"], row["value"]) for row in epochs if row["value"] is not None]
        if points:
            lines.append(LearningCurve(f"{standing.loss} ({standing.best_trial})", points))
    return draw_curves(lines, objective["metric"]).to_svg().decode() if lines else ""

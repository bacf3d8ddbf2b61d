"""Figures: numbers against plain Python, pictures against plotly's own classes."""

import csv
import dataclasses
import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

import api
from tests.api.test_contract import STUDY, V1
from tests.storage.examples import SPACE, new_study, run_all
from tuner.analysis.ablation import ablation_path
from tuner.analysis.importance import Importance, explained_variance, importances, interactions
from tuner.figures.data import Axis, Curve, History, LossNumbers, Panel, Point, axis_of, busy_share, contour
from tuner.figures.data import Bar as TimelineBar
from tuner.figures.parameter_plots import draw_contour, draw_importance, draw_parallel, draw_slice
from tuner.figures.plots import (
    THEME_COLOURS,
    count_axis,
    draw_curves,
    draw_history,
    draw_losses,
    draw_timeline,
    log_ticks,
)
from tuner.search.space import Dimension
from tuner.storage.base import RevisionCache
from tuner.storage.dashboard_queries import FigureQueries
from tuner.storage.storage import Storage

FIGURES = (
    "history", "curves", "losses", "edf", "importance", "interactions", "ablation", "slice", "parallel", "contour",
    "rank", "timeline",
)  # fmt: skip


ASKED = {"interactions": {"where": "train.lr:0.001:0.01"}}
"""What figures must be asked for to have something to show of the demo."""


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Storage]:
    """An empty SQLite storage."""
    with Storage.open(f"sqlite:///{tmp_path / 'tuner.db'}", create=True) as opened:
        yield opened


@pytest.mark.parametrize("figure", FIGURES)
def test_figures_are_legal_plotly(reader: httpx.Client, figure: str) -> None:
    """We write plain dictionaries for speed; plotly's own validators must accept every one."""
    from plotly.graph_objects import Figure

    drawn = reader.get(f"{STUDY}/figures/{figure}", params=ASKED.get(figure, {})).json()

    assert drawn["reason"] is None
    assert drawn["data"]
    Figure(data=drawn["data"], layout=drawn["layout"])


def test_the_front_is_legal_plotly(reader: httpx.Client) -> None:
    """The Pareto front exists for several objectives only."""
    from plotly.graph_objects import Figure

    drawn = reader.get(f"{V1}/studies/goals/figures/pareto").json()

    Figure(data=drawn["data"], layout=drawn["layout"])
    assert "Pareto front" in [trace.get("name") for trace in drawn["data"]]


@pytest.mark.parametrize("figure", FIGURES)
def test_a_figure_of_nothing_says_why(reader: httpx.Client, figure: str) -> None:
    """An empty plot looks broken; a sentence does not."""
    answer = reader.get(f"{V1}/studies/fresh/figures/{figure}")

    assert answer.status_code == 200
    assert answer.json()["reason"]


@pytest.mark.parametrize("figure", FIGURES)
def test_every_figure_is_a_table_and_a_csv(reader: httpx.Client, figure: str) -> None:
    """Not everybody can see a plot, and everybody wants the numbers."""
    asked = ASKED.get(figure, {})
    table = reader.get(f"{STUDY}/figures/{figure}", params={"format": "table", **asked}).json()
    text = reader.get(f"{STUDY}/figures/{figure}", params={"format": "csv", **asked}).text
    rows = list(csv.reader(io.StringIO(text)))

    assert rows[0] == table["columns"]
    assert len(rows) == len(table["rows"]) + 1 > 1


def test_colours_are_those_of_the_theme(reader: httpx.Client) -> None:
    """Pages replace every colour by their variable for it: one that they do not know stays light in the dark."""
    css = (Path(api.__file__).parent / "static" / "tuner.css").read_text()
    light = dict(re.findall(r"(--[a-z0-9-]+): (#[0-9a-f]{6})", css.split("}")[0]))
    dark = dict(re.findall(r"(--[a-z0-9-]+): (#[0-9a-f]{6})", css.split("}")[1]))
    used = {
        colour
        for figure in FIGURES
        for colour in re.findall(
            r'"(#[0-9a-f]{6})"', reader.get(f"{STUDY}/figures/{figure}", params=ASKED.get(figure, {})).text
        )
    }

    assert used <= set(THEME_COLOURS)
    assert {name: colour for colour, name in THEME_COLOURS.items()}.items() <= light.items()
    assert {name for name in THEME_COLOURS.values() if dark.get(name, light[name]) == light[name]} == set()


@pytest.mark.parametrize("epochs", [1, 2, 12, 13, 99, 2500])
def test_epochs_are_whole_numbers(epochs: int) -> None:
    """A tick at epoch 1.5 is none."""
    step = count_axis("epoch", epochs)["dtick"]

    assert isinstance(step, int)
    assert epochs / 12 <= step <= max(1, epochs / 4)


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (1e-4, 1e-2, None),
        (0.005, 0.02, ["0.005", "0.01", "0.02"]),
        (0.011, 0.02, ["0.02"]),
        (0.012, 0.019, ["0.012", "0.019"]),
        (0.031, 0.049, ["0.031", "0.049"]),
        (0.003, 0.003, ["0.003"]),
    ],
)
def test_a_logarithmic_axis_has_ticks_however_near_its_values_are(low: float, high: float, ticks: list[str]) -> None:
    """A search near its best has learning rates between two powers of ten: an axis of powers alone had no tick."""
    found = log_ticks(low, high)

    assert found["type"] == "log"
    if ticks is None:
        assert found["dtick"] == 1
    else:
        assert set(ticks) <= set(found["ticktext"])
        assert all(low <= tick <= high for tick in found["tickvals"])


@pytest.mark.parametrize(
    ("where", "holds"),
    [
        (["train.lr:0.001:0.01"], lambda row: 0.001 <= row["params"]["train.lr"] <= 0.01),
        (["train.batch_size=8", "train.batch_size=16"], lambda row: row["params"]["train.batch_size"] in (8, 16)),
        (["loss=dice", "loss=tversky"], lambda row: row["loss"] in ("dice", "tversky")),
        (["value:0.7:0.8"], lambda row: 0.7 <= row["value"] <= 0.8),
        (["loss.tversky.alpha:0:1", "value:0:1"], lambda row: row["loss"] == "tversky"),
        (["loss.dice.squared=true"], lambda row: row["params"].get("loss.dice.squared") is True),
    ],
)
def test_figures_show_the_trials_that_are_selected(reader: httpx.Client, where: list[str], holds: Any) -> None:
    """What is brushed in one figure is what all others are about, of all trials and not of those that are drawn."""
    complete = reader.get(f"{STUDY}/trials?state=COMPLETE&limit=1000").json()["items"]
    expected = {row["number"] for row in complete if holds(row)}
    table = reader.get(f"{STUDY}/figures/history", params={"where": where, "format": "table"}).json()
    slices = reader.get(f"{STUDY}/figures/slice", params={"where": where, "format": "table"}).json()
    page = reader.get("/studies/organs/trials", params={"where": where, "state": "COMPLETE"}).text

    assert {row[0] for row in table["rows"]} == expected
    assert {row[1] for row in slices["rows"]} == expected
    assert set(map(int, re.findall(r'data-pick="(\d+)"', page))) == expected


@pytest.mark.parametrize("where", ["bogus:0:1", "train.lr", "train.lr=3", "train.batch_size:4:8", "loss=dyce"])
def test_what_is_no_filter_is_refused(reader: httpx.Client, where: str) -> None:
    """A filter that is passed over answers with everything."""
    assert reader.get(f"{STUDY}/figures/history", params={"where": where}).status_code == 422


@pytest.mark.parametrize(("metric", "label"), [("hd95", None), ("hd95", "liver"), ("dice", "pancreas"), ("iou", None)])
def test_a_study_is_ranked_by_what_was_stored(reader: httpx.Client, metric: str, label: str | None) -> None:
    """Another metric, or one class, needs no training: its values at each trial's best epoch."""
    wish = {"metric": metric} | ({"class": label} if label else {})
    expected = {}
    for row in reader.get(f"{STUDY}/trials?state=COMPLETE&limit=1000").json()["items"]:
        history = reader.get(f"{STUDY}/trials/{row['number']}").json()["history"]
        at_best = next(e for e in history if e["epoch"] == row["best_epoch"])
        expected[row["number"]] = at_best["per_class"][metric][label] if label else at_best["metrics"][metric]
    table = reader.get(f"{STUDY}/figures/history", params={**wish, "format": "table"}).json()
    leaders = reader.get(f"{STUDY}/figures/losses", params={**wish, "format": "table"}).json()["rows"]
    best = (min if metric == "hd95" else max)(expected.values())

    assert {row[0]: row[2] for row in table["rows"]} == pytest.approx(expected)
    assert leaders[0][6] == pytest.approx(best)
    assert table["columns"][2] == (f"{metric} of {label}" if label else metric)
    assert reader.get(f"{STUDY}/figures/history?metric=sharpness").status_code == 422
    assert reader.get(f"{STUDY}/figures/history?class=tail").status_code == 422


def test_options_of_other_losses_do_not_clutter(reader: httpx.Client) -> None:
    """In a conditional space, parameters of thirteen losses mean nothing to a trial of the fourteenth."""
    shared = reader.get(f"{STUDY}/figures/parallel?format=table").json()["columns"]
    own = reader.get(f"{STUDY}/figures/parallel?format=table&loss=tversky").json()["columns"]

    assert not [name for name in shared if name.startswith("loss.")]
    assert [name for name in own if name.startswith("loss.")] == ["loss.tversky.alpha"]


def test_history_keeps_every_record_when_it_is_thinned(store: Storage) -> None:
    """A best trial that thinning drops would be a lie in the most looked-at figure."""
    values = [float(v) for v in np.random.default_rng(0).permutation(60)]
    record = store.studies.create(new_study(trials=60))
    run_all(store, record.study_id, values)

    found = FigureQueries(store).history(store.studies.get("organs"), most=7)

    records = [i for i, v in enumerate(values) if v == max(values[: i + 1])]
    assert found.total == 60
    assert [row.number for row in found.rows if row.record] == records
    assert 7 <= len(found.rows) <= 7 + len(records)


def test_what_is_thinned_says_so() -> None:
    """Ten thousand trials do not fit on a screen; who takes five hundred for all of them is misled."""
    points = [Point(i, 0.5 + i / 100, "dice", {"train.lr": 1e-3, "train.batch_size": 8}) for i in range(20)]
    curve = Curve(0, "dice", "COMPLETE", list(range(1, 300, 3)), [0.1] * 100)

    assert "1 of 9 trials" in (draw_curves([curve], 9, "dice", 0, most_epochs=120).note or "")
    assert "120 of 298 epochs" in (draw_curves([curve], 1, "dice", 0, most_epochs=120).note or "")
    assert draw_curves([curve], 1, "dice", 0, most_epochs=300).note is None
    spread = [dataclasses.replace(_loss("dice", 0.9), complete=700, values=[(1, 0.9), (2, 0.8)])]
    assert draw_losses(spread, "dice").note == "2 of 700 trials are shown"
    assert draw_history(History([(0, 0.5, "dice")], [(0, 0.5)], 10_000), "dice").note == "1 of 10,000 trials are shown"
    axes = [Axis("train.lr", True, (), 1e-4, 1e-2), Axis("train.batch_size", False, (), 4, 16)]
    drawn = [
        draw_parallel(axes, points, "maximize", "dice", 10_000),
        draw_slice([Panel(axes[0], [1e-3] * 20, points)], 10_000, "dice"),
        draw_contour(contour(axes[0], axes[1], points), "dice", 10_000),
        draw_importance([Importance("train.lr", 0.5, 20)], 10_000, 20),
        draw_timeline([TimelineBar(0, "dice", "COMPLETE", None, "node1", 0.0, 1.0)], 10_000),
    ]
    assert all("of 10,000" in (figure.note or "") for figure in drawn)


def test_thinning_keeps_the_best_and_spreads_the_rest(store: Storage) -> None:
    """What a leaderboard shows of a thousand trials must have their best, worst third and median."""
    record = store.studies.create(new_study(trials=50))
    run_all(store, record.study_id, [i / 100 for i in range(50)])
    reading = FigureQueries(store)

    rows = reading.values_by_loss(store.studies.get("organs"), most=10)
    points = reading.points(store.studies.get("organs"), most=10)

    assert rows[0].value == 0.49
    assert [row.value for row in rows] == sorted((row.value for row in rows), reverse=True)
    assert len(rows) == 10
    assert points.rows[0].value == 0.49
    assert points.total == 50


@pytest.mark.parametrize("direction", ["maximize", "minimize"])
@pytest.mark.parametrize("most", [3, 40])
def test_the_first_of_equals_leads(store: Storage, direction: str, most: int) -> None:
    """Between equal trials the leaderboard may not change its mind when another one ends."""
    record = store.studies.create(new_study(trials=12, objectives=[{"metric": "dice", "direction": direction}]))
    run_all(store, record.study_id, [0.5, 0.9, 0.1, 0.9, 0.1, 0.5], "focal")
    run_all(store, record.study_id, [0.2, 0.2, 0.2], "dice")

    rows = FigureQueries(store).values_by_loss(store.studies.get("organs"), most=most)
    first: dict[str, int] = {}
    for row in rows:
        first.setdefault(row.branch, row.number)

    assert first == {"focal": 1 if direction == "maximize" else 2, "dice": 6}
    assert len({row.number for row in rows}) == len(rows)


def test_what_is_remembered_of_a_study_goes_with_its_revision() -> None:
    """A leaderboard that stays behind would show yesterday's winner."""
    newest: RevisionCache[list[int]] = RevisionCache()

    assert newest.get("a", 1, lambda: [1]) == [1]
    assert newest.get("a", 1, lambda: [2]) == [1]
    assert newest.get("b", 1, lambda: [3]) == [3]
    assert newest.get("a", 2, lambda: [4]) == [4]
    for name in range(RevisionCache.MOST):
        newest.get(str(name), 1, list)
    assert newest.get("a", 2, lambda: [5]) == [5]


def test_importance_is_the_share_of_variance() -> None:
    """Reference: one-way analysis of variance on ranks, written out."""
    levels = ["a"] * 20 + ["b"] * 20
    values = [*np.arange(20.0), *np.arange(30.0, 50.0)]
    ranks = np.arange(40.0)
    between = 20 * ((ranks[:20].mean() - 19.5) ** 2 + (ranks[20:].mean() - 19.5) ** 2)
    total = ((ranks - 19.5) ** 2).sum()
    expected = (between - (total - between) / 38) / total

    assert explained_variance(levels, values) == pytest.approx(expected)


def test_importance_finds_what_matters_and_nothing_else() -> None:
    """A parameter that does nothing must not look important: chance is taken off."""
    dice = np.random.default_rng(0)
    params = [
        {"x": float(dice.uniform()), "y": float(dice.uniform()), "c": "ab"[int(dice.integers(2))]} for _ in range(400)
    ]
    values = [(p["x"] - 0.5) ** 2 for p in params]

    found = {item.name: item.share for item in importances(params, values)}

    assert found["x"] > 0.8
    assert found["y"] < 0.05
    assert found["c"] < 0.05


@pytest.mark.parametrize("values", [[1.0] * 20, [1.0] * 3], ids=["constant", "too few"])
def test_importance_of_nothing(values: list[float]) -> None:
    """Equal values are explained by nothing; too few say nothing."""
    assert explained_variance(list(range(len(values))), values) in (0.0, None)


def test_interactions_are_found_and_only_they() -> None:
    """A product explains nothing by its factors and everything by both."""
    dice = np.random.default_rng(0)
    params = [{name: float(dice.uniform(-1, 1)) for name in "xyz"} for _ in range(600)]
    found = interactions(params, [p["x"] * p["y"] for p in params])

    assert (found[0].first, found[0].second) == ("x", "y")
    assert found[0].share > 0.5
    assert max(item.share for item in found[1:]) < 0.1


@pytest.mark.parametrize("maximizes", [True, False])
def test_the_ablation_path_takes_what_gains_most_first(maximizes: bool) -> None:
    """One parameter makes the gain, one a little, one none."""
    dice = np.random.default_rng(0)
    dimensions = [Dimension(name, "float", 0.0, 1.0) for name in "abc"]
    params = [{name: float(dice.uniform()) for name in "abc"} for _ in range(300)]
    sign = 1 if maximizes else -1
    values = [sign * (p["a"] + 0.3 * p["b"]) for p in params]
    start, end = dict.fromkeys("abc", 0.1), dict.fromkeys("abc", 0.9)

    first, steps = ablation_path(dimensions, start, end, params, values, maximizes=maximizes)

    assert [step.name for step in steps][:2] == ["a", "b"]
    assert sign * (steps[0].predicted - first) > 0.5
    assert abs(steps[2].predicted - steps[1].predicted) < 0.1


def test_a_contour_lies_between_the_values_it_smooths() -> None:
    """A guess outside what was measured would invent an optimum."""
    x, y = axis_of(SPACE.find("train.lr")), axis_of(SPACE.find("model.width"))  # type: ignore[arg-type]
    points = [Point(i, i / 10, "dice", {"train.lr": 10 ** -(2 + i / 4), "model.width": 8 + 5 * i}) for i in range(10)]

    found = contour(x, y, points)

    assert found is not None
    heights = np.array(found.heights)
    assert heights.shape == (24, 24)
    assert 0 <= heights.min() < heights.max() <= 0.9


def test_idle_time_is_what_no_trial_fills() -> None:
    """Half of a lane's span is gaps: it was busy half of the time."""
    bars = [
        TimelineBar(0, None, "COMPLETE", None, "w", 0.0, 10.0),
        TimelineBar(1, None, "COMPLETE", None, "w", 30.0, 40.0),
    ]

    assert busy_share(bars) == {"w": 0.5}


def _loss(name: str, best: float) -> LossNumbers:
    return LossNumbers(name, "region", 1, 0, 0, 0, 1.0, best, 0, best, [(0, best)])

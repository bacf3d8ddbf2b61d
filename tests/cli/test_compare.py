"""`tuner compare`: any table of scores, judged or refused with the line."""

import csv
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from tests.analysis.tables import scores
from tests.cli.shell import Shell
from tuner.analysis.score_table import COLUMNS

Row = Sequence[object]


def rows_of(names: Sequence[str] = ("tversky", "dice"), runs: int = 4, cases: int = 8) -> list[Row]:
    """Return the rows of a table in which the first configuration is clearly better."""
    means = tuple(0.8 - 0.3 * place for place in range(len(names)))
    values = scores(np.random.default_rng(0), len(names), runs, cases, sds=(0.01, 0.01, 0.01), means=means)
    return [
        (name, f"s{r}", f"case{k}", f"{values[c, r, k]:.5f}")
        for c, name in enumerate(names)
        for r in range(runs)
        for k in range(cases)
    ]


def write(path: Path, rows: Sequence[Row], columns: Sequence[str] = COLUMNS, separator: str = ",") -> Path:
    """Write a table."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, delimiter=separator)
        writer.writerow(columns)
        writer.writerows(rows)
    return path


def test_a_table_is_judged(tuner: Shell, tmp_path: Path) -> None:
    """Words and columns for people, one document for programs."""
    path = write(tmp_path / "scores.csv", rows_of())

    words = tuner("compare", str(path))
    document = tuner("compare", str(path), "--json").json()

    assert words.code == 0
    assert "tversky is better than dice: by 0.28" in words.out
    assert document["leader"] == "tversky"
    assert document["pairs"][0]["verdict"] == "a_better"
    assert document["margin"] == 0.01
    assert document["text"] in words.out


@pytest.mark.parametrize("separator", [";", "\t"])
def test_order_of_rows_and_separators_do_not_matter(tuner: Shell, tmp_path: Path, separator: str) -> None:
    """The document is the same for a shuffled table with other columns first."""
    rows = rows_of()
    plain = tuner("compare", str(write(tmp_path / "plain.csv", rows)), "--json").json()
    order = np.random.default_rng(1).permutation(len(rows))
    mixed = [(rows[n][3], rows[n][2], rows[n][0], rows[n][1]) for n in order]
    columns = ("value", "case", "configuration", "run")
    shuffled = tuner("compare", str(write(tmp_path / "mixed.csv", mixed, columns, separator)), "--json").json()

    assert json.dumps(_rounded(shuffled)) == json.dumps(_rounded(plain))


def _rounded(value: object) -> object:
    if isinstance(value, float):
        return round(value, 10)
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items() if key != "run_means"}
    return [_rounded(item) for item in value] if isinstance(value, list) else value


def test_fixed_cases_claim_less(tuner: Shell, tmp_path: Path) -> None:
    """And say so."""
    path = write(tmp_path / "scores.csv", rows_of(cases=3))

    assert tuner("compare", str(path), "--json").json()["generalises_to"] == "nothing"
    fixed = tuner("compare", str(path), "--cases", "fixed", "--json").json()
    assert (fixed["generalises_to"], fixed["pairs"][0]["verdict"]) == ("new trainings", "a_better")


def test_distances_are_better_when_they_are_small(tuner: Shell, tmp_path: Path) -> None:
    """By the name of the metric, or by the flag."""
    path = write(tmp_path / "scores.csv", rows_of())

    assert tuner("compare", str(path), "--metric", "hd95", "--json").json()["leader"] == "dice"
    other = tuner("compare", str(path), "--metric", "volume_error", "--lower-is-better", "--json").json()
    assert (other["leader"], other["direction"], other["margin"]) == ("dice", "minimize", None)


def test_collapsed_runs_are_told(tuner: Shell, tmp_path: Path) -> None:
    """By a column of its own."""
    rows = [(*row, int(row[0] == "dice" and row[1] == "s1")) for row in rows_of()]
    path = write(tmp_path / "scores.csv", rows, (*COLUMNS, "collapsed"))

    document = tuner("compare", str(path), "--json").json()
    assert [c["runs_collapsed"] for c in document["configurations"]] == [0, 1]


def test_undefined_values_are_refused_or_left_out(tuner: Shell, tmp_path: Path) -> None:
    """Never silently."""
    rows = [(*row[:3], "nan") if row[0] == "dice" and row[2] == "case3" else row for row in rows_of()]
    path = write(tmp_path / "scores.csv", rows)

    refused = tuner("compare", str(path))
    assert refused.code == 2
    assert "line 37: value is nan." in refused.err
    document = tuner("compare", str(path), "--leave-out-undefined", "--json").json()
    assert document["left_out"]["cases"] == 1
    assert document["configurations"][0]["cases"] == 7


BROKEN = [
    (lambda rows: rows[:-1], COLUMNS, "no row for configuration 'dice', run 's3', case 'case7'"),
    (lambda rows: [*rows, rows[3]], COLUMNS, "line 66 repeats line 5: configuration 'tversky', run 's0', case 'case3'"),
    (lambda rows: rows[:-8], COLUMNS, "configuration 'dice' has 3 runs and lacks 's3'"),
    (lambda rows: [*rows[:-1], (*rows[-1][:3], "inf")], COLUMNS, "line 65: value is inf"),
    (lambda rows: [*rows[:-1], (*rows[-1][:3], "")], COLUMNS, "line 65: value is empty"),
    (lambda rows: [*rows[:-1], (*rows[-1][:3], "0,5")], COLUMNS, "line 65: value '0,5' is not a number"),
    (lambda rows: [*rows[:-1], (*rows[-1][:3], "71.3")], COLUMNS, "divide percentages by 100"),
    (lambda rows: [*rows[:-1], rows[-1][:3]], COLUMNS, "line 65: 3 cells for 4 columns"),
    (lambda rows: [*rows[:-1], ("", *rows[-1][1:])], COLUMNS, "line 65: configuration is empty"),
    (lambda rows: [(*row, 1) for row in rows], (*COLUMNS, "colapsed"), "did you mean 'collapsed'?"),
    (lambda rows: rows, ("configuration", "run", "case", "dice"), "column 'value' is missing"),
    (lambda rows: [(*r, r[3]) for r in rows], (*COLUMNS, "value"), "column 'value' stands 2 times"),
    (lambda rows: [(*r, n % 2) for n, r in enumerate(rows)], (*COLUMNS, "collapsed"), ":3: collapsed is 1 here"),
    (lambda _: [], COLUMNS, "the table has no row"),
]


@pytest.mark.parametrize(("spoil", "columns", "said"), BROKEN, ids=[said for *_, said in BROKEN])
def test_broken_tables_are_refused_with_the_line(
    tuner: Shell, tmp_path: Path, spoil: object, columns: Sequence[str], said: str
) -> None:
    """What is missing, doubled or no number; nothing is written."""
    path = write(tmp_path / "scores.csv", spoil(rows_of()), columns)  # type: ignore[operator]

    result = tuner("compare", str(path), "-o", str(tmp_path / "out.html"))

    assert result.code == 2
    assert said in result.err
    assert result.out == ""
    assert not (tmp_path / "out.html").exists()


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--cases", "rando"), "Did you mean 'random'?"),
        (("--alpha", "0"), "alpha is 0"),
        (("--margin", "-0.1"), "margin is -0.1"),
        (("--metric", "hd59"), "Did you mean 'hd95'?"),
        (("--metric", "dice", "--lower-is-better"), "higher values of dice are better"),
        (("-o", "verdict.docx"), "written as .html, .png or .svg"),
        (("-o", "nowhere/at/all.html"), "does not exist"),
    ],
)
def test_wrong_flags_are_refused(tuner: Shell, tmp_path: Path, flags: Sequence[str], said: str) -> None:
    """With what would be right."""
    result = tuner("compare", str(write(tmp_path / "scores.csv", rows_of())), *flags)

    assert (result.code, result.out) == (2, "")
    assert said in result.err


def test_a_missing_or_binary_file_is_refused(tuner: Shell, tmp_path: Path) -> None:
    """No traceback."""
    assert "there is no such file" in tuner("compare", str(tmp_path / "none.csv")).err
    (tmp_path / "binary.csv").write_bytes(b"\x89PNG\xff\xfe\x00")
    assert tuner("compare", str(tmp_path / "binary.csv")).code == 2
    assert tuner("compare", str(tmp_path)).code == 2


def test_the_document_opens_offline(tuner: Shell, tmp_path: Path) -> None:
    """Nothing is loaded from anywhere; whatever names hold is text."""
    path = write(tmp_path / "scores.csv", rows_of(("<script>alert(1)</script>", "dice")))
    assert tuner("compare", str(path), "-o", str(tmp_path / "v.html")).code == 0
    text = (tmp_path / "v.html").read_text(encoding="utf-8")

    assert "<script" not in text
    assert 'src="http' not in text
    assert text.count("<img src=") == 4
    assert "Banerjee" in text


@pytest.mark.parametrize("shape", [(2, 1, 1), (2, 3, 1), (1, 3, 8), (12, 3, 6)])
def test_every_table_can_be_drawn(tuner: Shell, tmp_path: Path, shape: tuple[int, int, int]) -> None:
    """One run, one case, one configuration, many pairs."""
    from PIL import Image

    names = [f"configuration {n}" for n in range(shape[0])]
    path = write(tmp_path / "scores.csv", rows_of(names, *shape[1:]))
    flags = ("--metric", "score", "--higher-is-better")
    for ending in ("png", "svg", "html"):
        assert tuner("compare", str(path), *flags, "-o", str(tmp_path / f"v.{ending}")).code == 0
    with Image.open(tmp_path / "v.png") as image:
        assert image.width == 1920
    assert (tmp_path / "v.svg").read_text(encoding="utf-8").startswith("<svg")

"""What a verdict claims, and what it never claims."""

import json
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest

from tests.analysis.tables import Values, scores, table
from tuner.analysis.pairwise_tests import alpha_of_look, alpha_until_sure, compare_pairs
from tuner.analysis.score_table import Candidate, ScoreTable
from tuner.analysis.verdict import Verdict, default_margin, judge
from tuner.errors import DataError, RequestError
from tuner.report.verdict_document import configuration_table, methods_paragraph

CONTRACT = {
    "": "metric direction alpha margin generalises_to configurations pairs variance left_out leader "
    "not_separable_from_leader text",
    "configurations": "name loss trial runs cases mean interval sd_runs runs_failed runs_collapsed seen_in_search "
    "seconds probability_best groups",
    "pairs": "a b difference interval interval_adjusted p p_adjusted verdict within_margin reason",
}


def clear(count: int = 3, runs: int = 5, cases: int = 12, step: float = 0.2, seed: int = 0) -> Values:
    """Return scores of configurations that differ by many standard errors."""
    means = [0.7 - step * place for place in range(count)]
    return scores(np.random.default_rng(seed), count, runs, cases, sds=(0.01, 0.01, 0.02), means=means)


def test_the_document_has_the_fields_of_the_contract() -> None:
    """Other programs read them by name; numbers are plain JSON."""
    document = json.loads(json.dumps(judge(table(clear()), margin=0.01).as_dict()))

    assert set(CONTRACT[""].split()) <= set(document)
    for part in ("configurations", "pairs"):
        assert all(set(CONTRACT[part].split()) <= set(row) for row in document[part])
    assert set(document["variance"]) == {"run", "case", "residual"}
    assert document["left_out"] == {"cases": 0, "why": {}}
    assert document["generalises_to"] == "new trainings and new cases"
    assert len(document["configurations"][0]["interval"]) == 2


def test_clear_differences_are_claimed() -> None:
    """The better one is named, whatever side it stands on, and letters and words agree."""
    verdict = judge(table(clear()), margin=0.01)

    assert [pair.verdict for pair in verdict.pairs] == ["a_better"] * 3
    assert (verdict.leader, verdict.not_separable_from_leader) == ("a", ())
    assert [c.groups for c in verdict.configurations] == ["a", "b", "c"]
    assert verdict.text.startswith("a is better than each of the 2 others.")
    assert verdict.is_decided


def test_lower_is_better_where_the_direction_says_so() -> None:
    """The leader of a distance has the smallest mean."""
    verdict = judge(table(clear(), metric="hd95", direction="minimize"))

    assert verdict.leader == "c"
    assert verdict.pair("c", "a").verdict == "a_better"
    assert verdict.pair("c", "a").difference == pytest.approx(-0.4, abs=0.05)


@pytest.mark.parametrize("random_cases", [True, False])
def test_one_run_is_never_a_claim(random_cases: bool) -> None:
    """Not even where a difference is enormous, or where nothing varies."""
    for values in (clear(runs=1, step=100.0), np.full((3, 1, 9), 0.5) + np.arange(3)[:, None, None]):
        verdict = judge(table(values), random_cases=random_cases, margin=1e9)

        assert {pair.verdict for pair in verdict.pairs} == {"undecided"}
        assert {pair.reason for pair in verdict.pairs} == {"one_run"}
        assert {pair.p for pair in verdict.pairs} == {None}
        assert verdict.generalises_to == "nothing"
        assert [c.groups for c in verdict.configurations] == ["a"] * 3
        assert [c.probability_best for c in verdict.configurations] == [None] * 3
        assert "better than" not in verdict.text


@pytest.mark.parametrize(
    ("shape", "random_cases", "reason", "scope"),
    [
        ((2, 2, 12), True, "few_runs", "nothing"),
        ((2, 2, 12), False, "few_runs", "nothing"),
        ((2, 5, 5), True, "few_cases", "nothing"),
        ((2, 5, 5), False, None, "new trainings"),
        ((2, 5, 6), True, None, "new trainings and new cases"),
    ],
)
def test_too_little_is_no_claim(
    shape: tuple[int, int, int], random_cases: bool, reason: str | None, scope: str
) -> None:
    """Three runs, and six cases where the claim is about new cases."""
    verdict = judge(table(clear(*shape, step=5.0)), random_cases=random_cases)

    assert verdict.pairs[0].reason == reason
    assert verdict.pairs[0].verdict == ("a_better" if reason is None else "undecided")
    assert verdict.generalises_to == scope


def test_failed_runs_give_that_configuration_no_verdict() -> None:
    """The others are judged as ever, in the family of all."""
    values = clear()
    values[1, 2] = np.nan
    failed = np.zeros((3, 5), dtype=bool)
    failed[1, 2] = True

    verdict = judge(table(values, failed=failed), margin=0.01)

    assert verdict.pair("a", "b").reason == "failed_runs"
    assert verdict.pair("b", "c").reason == "failed_runs"
    assert verdict.pair("a", "c").verdict == "a_better"
    b = next(c for c in verdict.configurations if c.name == "b")
    assert (b.runs, b.runs_failed, b.groups, b.probability_best) == (4, 1, "", None)
    assert verdict.not_separable_from_leader == ("b",)
    assert "b gets no verdict: 1 of its 5 runs failed." in verdict.text
    assert verdict.pair("a", "c").p_adjusted == pytest.approx(3 * (verdict.pair("a", "c").p or 0))


def test_when_all_runs_of_all_failed_there_is_still_a_document() -> None:
    """Nothing is known, and nothing breaks."""
    values = np.full((2, 3, 6), np.nan)

    verdict = judge(table(values, failed=np.ones((2, 3), dtype=bool)))

    assert verdict.configurations[0].mean is None
    assert verdict.pairs[0].reason == "one_run"
    json.dumps(verdict.as_dict(), allow_nan=False)


def test_a_difference_that_rests_on_collapsed_runs_is_not_claimed() -> None:
    """`unstable`: without the runs that collapsed the two are alike."""
    values = scores(np.random.default_rng(1), 2, 10, 20, sds=(0.01, 0.01, 0.02), means=(0.7, 0.7))
    collapsed = np.zeros((2, 10), dtype=bool)
    collapsed[1, :6] = True
    values[1, :6] = 0.05

    claimed = judge(table(values))
    verdict = judge(table(values, collapsed=collapsed))

    assert claimed.pairs[0].verdict == "a_better"
    assert (verdict.pairs[0].verdict, verdict.pairs[0].reason) == ("undecided", "unstable")
    assert verdict.pairs[0].difference == pytest.approx(claimed.pairs[0].difference)
    assert "b collapsed in 6 of 10 runs" in verdict.text


def test_a_difference_that_stays_without_collapsed_runs_is_claimed() -> None:
    """They are counted in the mean, and do not forbid what holds anyway."""
    values = clear(2, runs=8)
    collapsed = np.zeros((2, 8), dtype=bool)
    collapsed[1, 0], values[1, 0] = True, 0.45

    verdict = judge(table(values, collapsed=collapsed))

    assert verdict.pairs[0].verdict == "a_better"
    assert verdict.configurations[1].mean == pytest.approx(values[1].mean())


def test_equivalence_needs_a_margin_runs_and_cases() -> None:
    """Two one-sided tests; no margin, no claim."""
    values = scores(np.random.default_rng(2), 2, 5, 12, sds=(0.001, 0.001, 0.002), means=(0.7, 0.7005))

    assert judge(table(values), margin=0.01).pairs[0].verdict == "equivalent"
    assert judge(table(values)).pairs[0].reason == "not_significant"
    assert judge(table(values[:, :2]), margin=0.01).pairs[0].reason == "few_runs"
    few = judge(table(values[:, :, :5]), margin=0.01, random_cases=False).pairs[0]
    assert (few.verdict, few.reason) == ("undecided", "few_cases")
    assert default_margin("dice") == 0.01
    assert default_margin("hd95") is None


def test_a_significant_difference_within_the_margin_says_so() -> None:
    """Better, but not by anything that matters."""
    values = scores(np.random.default_rng(3), 2, 5, 12, sds=(0.0002, 0.0002, 0.0002), means=(0.703, 0.7))

    pair = judge(table(values), margin=0.01).pairs[0]

    assert (pair.verdict, pair.within_margin) == ("a_better", True)


def test_a_later_look_needs_more() -> None:
    """What the first look claims with p = 0.01 the third does not: 0.05 / 12 is all that it may spend."""
    rng = np.random.default_rng(4)
    p = 1.0
    while not 0.006 < p < 0.02:
        values = scores(rng, 2, 5, 12, means=(1.8, 0.0))
        p = judge(table(values)).pairs[0].p or 1.0

    assert judge(table(values)).pairs[0].verdict == "a_better"
    assert judge(table(values), look=1).pairs[0].verdict == "a_better"
    assert judge(table(values), look=3).pairs[0].reason == "not_significant"
    assert judge(table(values), look=3).alpha_of_look == alpha_of_look(3)
    assert judge(table(values), level=alpha_until_sure()).alpha_of_look == pytest.approx(0.05 / 3)


def test_the_methods_paragraph_says_how_who_is_judged_was_chosen() -> None:
    """Of a confirmation: by a search, with other seeds; of a table from elsewhere nobody knows."""
    values = clear(count=2)
    here = table(values)
    chosen = [replace(c, trial=n, memory_bytes=2**20, memory_of="cuda") for n, c in enumerate(here.configurations)]
    confirmed = judge(replace(here, configurations=tuple(chosen)), look=2)

    assert "hyperparameter search" not in methods_paragraph(judge(here))
    text = methods_paragraph(confirmed)
    assert "2 of them were chosen by their validated values in a hyperparameter search; all were then" in text
    assert "look 2 spent 0.00833 of it" in text
    assert confirmed.as_dict()["configurations"][0]["memory_bytes"] == 2**20
    assert configuration_table(confirmed).rows[0][-1] == "1 MiB"


def decisions(verdict: Verdict) -> dict[frozenset[str], tuple[object, ...]]:
    """Return what is said of each pair, whatever its order."""
    better = {"a_better": 0, "b_better": 1}
    return {
        frozenset((pair.a, pair.b)): (
            (pair.a, pair.b)[better[pair.verdict]] if pair.verdict in better else pair.verdict,
            pair.reason,
            round(pair.p or -1, 9),
            round(pair.p_adjusted or -1, 9),
        )
        for pair in verdict.pairs
    }


def mixed(seed: int) -> ScoreTable:
    """Return a table with claims, equivalence and open pairs."""
    means = (0.7, 0.7, 0.66, 0.5)
    return table(scores(np.random.default_rng(seed), 4, 5, 12, sds=(0.008, 0.01, 0.03), means=means))


@pytest.mark.parametrize("seed", range(5))
def test_the_order_of_rows_changes_nothing(seed: int) -> None:
    """Permuting configurations, runs and cases: the same document."""
    base, rng = mixed(seed), np.random.default_rng(seed)
    c, r, k = (rng.permutation(size) for size in base.values.shape)
    shuffled = replace(
        base,
        configurations=tuple(base.configurations[i] for i in c),
        runs=tuple(base.runs[i] for i in r),
        cases=tuple(base.cases[i] for i in k),
        values=base.values[c][:, r][:, :, k],
    )

    first, second = judge(base, margin=0.01), judge(shuffled, margin=0.01)

    assert decisions(first) == decisions(second)
    assert first.text == second.text
    assert [c.name for c in first.configurations] == [c.name for c in second.configurations]
    assert [c.probability_best for c in first.configurations] == [c.probability_best for c in second.configurations]


@pytest.mark.parametrize("seed", range(3))
def test_shift_and_scale_change_no_decision(seed: int) -> None:
    """A constant added to every score, or other units with the margin in them."""
    base = mixed(seed)
    first = judge(base, margin=0.01)
    shifted = judge(replace(base, values=base.values + 3.0), margin=0.01)
    scaled = judge(replace(base, values=base.values * 250), margin=2.5)
    renamed = judge(
        replace(base, configurations=tuple(Candidate(f"x{c.name}") for c in base.configurations)), margin=0.01
    )

    assert decisions(first) == decisions(shifted) == decisions(scaled)
    assert [p.verdict for p in first.pairs] == [p.verdict for p in renamed.pairs]
    for a, b in zip(first.pairs, scaled.pairs, strict=True):
        assert (b.difference, *(b.interval or ())) == pytest.approx(
            [250 * x for x in (a.difference or 0, *(a.interval or ()))]
        )


def test_flipping_the_direction_flips_the_claims() -> None:
    """Scores with another sign, lower better: the same winners."""
    base = mixed(7)
    flipped = judge(replace(base, values=-base.values, direction="minimize"), margin=0.01)

    assert decisions(judge(base, margin=0.01)) == decisions(flipped)


def test_skewed_scores_with_many_zeros_are_judged() -> None:
    """Dice of small organs, half of the cases at 0: equals are told apart as seldom as promised."""
    rng = np.random.default_rng(8)
    seen = rng.random((1000, 1, 1, 20)) > 0.3
    values = np.maximum(rng.beta(2, 1, size=(1000, 4, 5, 20)) - 0.4 + 0.1 * rng.random((1000, 4, 5, 1)), 0.0) * seen

    assert (compare_pairs(values).p_adjusted.min(axis=-1) < 0.05).mean() <= 0.07
    assert judge(table(values[0])).generalises_to == "new trainings and new cases"


def test_undefined_cases_are_left_out_of_all() -> None:
    """One common set of cases, counted; too many are refused."""
    values = clear(cases=20)
    values[1, 0, 3] = values[2, 4, 7] = np.nan
    names, runs, cases = [Candidate(n) for n in "abc"], [str(r) for r in range(5)], [str(k) for k in range(20)]

    kept = ScoreTable.without_undefined(names, runs, cases, values)

    assert kept.values.shape == (3, 5, 18)
    assert "3" not in kept.cases
    assert "7" not in kept.cases
    assert judge(kept).left_out.cases == 2
    assert "2 cases were left out of everything" in judge(kept).text
    values[0, 0, :5] = np.nan
    with pytest.raises(DataError, match="undefined on 6 of 20 cases"):
        ScoreTable.without_undefined(names, runs, cases, values)


def test_tables_that_are_none_are_refused() -> None:
    """Names that stand twice, values that are not finite, shapes that do not fit."""
    values = clear()
    with pytest.raises(DataError, match="'a' stands twice"):
        ScoreTable((Candidate("a"), Candidate("a")), ("1",), ("k",), values[:2, :1, :1])
    values[0, 1, 2] = np.inf
    with pytest.raises(DataError, match="the value of 'a', run 'run 1', case 'case 2' is inf"):
        table(values)
    with pytest.raises(DataError, match="shape"):
        ScoreTable((Candidate("a"),), ("1",), ("k",), np.zeros((1, 2, 1)))
    with pytest.raises(RequestError, match="alpha is 2"):
        judge(table(clear()), alpha=2)
    with pytest.raises(RequestError, match="margin is -1"):
        judge(table(clear()), margin=-1)


def test_a_single_configuration_has_a_mean_and_no_pairs() -> None:
    """Its interval is that of the same formula; there is no opponent."""
    verdict = judge(table(clear(1)))

    assert verdict.pairs == ()
    assert verdict.configurations[0].interval is not None
    assert verdict.configurations[0].sd_runs == pytest.approx(clear(1)[0].mean(1).std(ddof=1))
    assert "only configuration" in verdict.text


def test_a_large_table_is_judged_like_its_pairs() -> None:
    """Forty configurations: each pair has the p that it has alone."""
    values = scores(np.random.default_rng(9), 40, 10, 300, sds=(0.02, 0.03, 0.05))
    verdict = judge(table(values), draws=0)

    assert len(verdict.pairs) == 780
    for a, b in list(combinations(range(40), 2))[::97]:
        alone = compare_pairs(values[[a, b]]).p[0]
        names = chr(ord("a") + a), chr(ord("a") + b)
        assert verdict.pair(*names).p == pytest.approx(alone, rel=1e-9)

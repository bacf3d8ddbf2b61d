"""The statistics of paired runs against independent routes: statsmodels, scipy, and truth that is known."""

from itertools import combinations

import numpy as np
import pytest
from scipy import stats

from tests.analysis.tables import scores
from tuner.analysis.pairwise_tests import (
    LOOKS_UNTIL_SURE,
    VarianceComponents,
    adjust_holm,
    alpha_of_look,
    alpha_until_sure,
    compact_letters,
    compare_pairs,
    detectable_difference,
    estimate_mean,
    mean_squares,
    probability_best,
    variance_components,
)
from tuner.errors import RequestError


@pytest.mark.parametrize(("runs", "cases"), [(2, 2), (3, 7), (5, 12), (10, 4)])
def test_mean_squares_are_those_of_an_analysis_of_variance(runs: int, cases: int) -> None:
    """Statsmodels fits the same layout by least squares; nothing is shared with our sums."""
    import pandas
    from statsmodels.formula.api import ols
    from statsmodels.stats.anova import anova_lm

    values = 0.7 + 0.1 * np.random.default_rng(runs).standard_normal((runs, cases))
    frame = pandas.DataFrame(
        {
            "value": values.ravel(),
            "run": np.repeat(np.arange(runs), cases),
            "case": np.tile(np.arange(cases), runs),
        }
    )
    expected = anova_lm(ols("value ~ C(run) + C(case)", data=frame).fit())

    found = mean_squares(values)

    for name, row in ((found.run, "C(run)"), (found.case, "C(case)"), (found.residual, "Residual")):
        assert float(name) == pytest.approx(float(expected.loc[row, "mean_sq"]), rel=1e-9)
    assert float(found.mean) == pytest.approx(values.mean(), rel=1e-12)


def test_fixed_cases_are_the_paired_t_test_over_runs() -> None:
    """Without variance between cases only the means of the runs count."""
    values = scores(np.random.default_rng(1), 300, 2, 4, 9, means=(0.4, 0.0))
    expected = stats.ttest_rel(values[:, 0].mean(-1), values[:, 1].mean(-1), axis=-1)

    tests = compare_pairs(values, random_cases=False)

    assert tests.p[:, 0] == pytest.approx(expected.pvalue, rel=1e-7)
    low, high = expected.confidence_interval(0.95)
    assert tests.estimate.half_width(0.05)[:, 0] == pytest.approx((high - low) / 2, rel=1e-9)


def test_runs_that_agree_are_the_paired_t_test_over_cases() -> None:
    """When every run gives the same scores only the cases vary."""
    one = scores(np.random.default_rng(2), 200, 2, 1, 11, means=(0.6, 0.0))
    values = np.repeat(one, 5, axis=-2)
    expected = stats.ttest_rel(one[:, 0, 0], one[:, 1, 0], axis=-1).pvalue

    assert compare_pairs(values).p[:, 0] == pytest.approx(expected, rel=1e-7)


def test_the_interval_ends_at_zero_at_its_p() -> None:
    """Each p is the root of Banerjee's bound, from nearly 1 to below 1e-12."""
    values = scores(np.random.default_rng(3), 400, 2, 5, 8, sds=(0.2, 0.5, 0.3))
    values[:, 0] += np.geomspace(1e-6, 1e4, 400)[:, None, None]
    tests = compare_pairs(values)

    width = tests.estimate.critical_value(tests.p) * tests.estimate.standard_error
    assert width == pytest.approx(np.abs(tests.estimate.mean), rel=1e-7)
    assert tests.p.min() < 1e-12
    assert tests.p.max() > 0.9


def test_p_lies_between_those_of_both_t_tests() -> None:
    """The bound mixes two critical values: it is at most the stricter, at least the laxer."""
    values = scores(np.random.default_rng(4), 200, 2, 3, 30)
    tests = compare_pairs(values)
    ratio = np.abs(tests.estimate.mean) / tests.estimate.standard_error

    assert (tests.p <= 2 * stats.t.sf(ratio, 2) + 1e-12).all()
    assert (tests.p >= 2 * stats.t.sf(ratio, 29) - 1e-12).all()


def test_what_does_not_vary_is_never_significant() -> None:
    """A constant shift is no evidence: nothing says how much it would vary; rounding is not variance."""
    base = 0.1 + np.random.default_rng(5).random((1, 5, 12)) / 3
    values = np.concatenate([base, base + 0.1, base * 1.0])

    assert compare_pairs(values).p == pytest.approx([1.0, 1.0, 1.0])


def test_one_run_and_one_case_have_no_p() -> None:
    """Nothing can be said, and no warning is raised."""
    rng = np.random.default_rng(6)
    assert np.isnan(compare_pairs(scores(rng, 2, 1, 9)).p).all()
    assert np.isnan(compare_pairs(scores(rng, 2, 4, 1)).p).all()
    assert np.isfinite(compare_pairs(scores(rng, 2, 4, 1), random_cases=False).p).all()


def test_holm_is_that_of_statsmodels() -> None:
    """For many families at once."""
    from statsmodels.stats.multitest import multipletests

    p = np.random.default_rng(7).random((8, 6)) ** 3

    expected = [multipletests(row, method="holm")[1] for row in p]
    assert adjust_holm(p) == pytest.approx(np.asarray(expected), rel=1e-12)


def test_holm_counts_pairs_that_were_dropped_since_the_first_look() -> None:
    """A smaller table later is no smaller family."""
    assert adjust_holm(np.array([0.01, 0.2]), family=6) == pytest.approx([0.06, 1.0])
    assert adjust_holm(np.array([0.01, np.nan])) == pytest.approx([0.02, np.nan], nan_ok=True)


def test_all_looks_together_spend_alpha() -> None:
    """However long one looks."""
    assert sum(alpha_of_look(look) for look in range(1, 10_000)) == pytest.approx(0.05, abs=1e-5)
    assert alpha_until_sure() * len(LOOKS_UNTIL_SURE) == pytest.approx(0.05)
    with pytest.raises(RequestError, match="look 0"):
        alpha_of_look(0)


def test_components_are_found_again() -> None:
    """Averaged over many tables the estimates are the truth."""
    found = variance_components(mean_squares(scores(np.random.default_rng(8), 4000, 6, 10, sds=(0.5, 1.0, 2.0))))

    assert (found.run, found.case, found.residual) == pytest.approx((0.25, 1.0, 4.0), rel=0.1)


@pytest.mark.parametrize("random_cases", [True, False])
@pytest.mark.parametrize("runs", [3, 5, 8])
def test_the_detectable_difference_is_detected(runs: int, random_cases: bool) -> None:
    """With the probability that was promised."""
    sds = (0.5, 0.6, 1.0)
    of_difference = VarianceComponents(*(2 * sd**2 for sd in sds))
    difference = detectable_difference(of_difference, runs=runs, cases=20, random_cases=random_cases)
    assert difference is not None

    values = scores(np.random.default_rng(9), 3000, 2, runs, 20, sds=sds, means=(difference, 0.0))
    if not random_cases:  # the cases are those that they are: their effects do not change from table to table
        values = scores(np.random.default_rng(9), 3000, 2, runs, 20, sds=(sds[0], 0, sds[2]), means=(difference, 0.0))
    found = (compare_pairs(values, random_cases=random_cases).p < 0.05).mean()

    assert 0.72 < found < 0.88


def test_what_is_not_known_is_not_planned() -> None:
    """Neither without components nor for a single run."""
    known = VarianceComponents(1.0, 1.0, 1.0)
    assert detectable_difference(VarianceComponents(None, None, None), runs=5, cases=9) is None
    assert detectable_difference(known, runs=1, cases=9) is None
    assert detectable_difference(VarianceComponents(0.0, 0.0, 0.0), runs=3, cases=9) == 0.0


def test_letters_say_exactly_what_the_tests_say() -> None:
    """Two share a letter if and only if they are not told apart, also where that is not transitive."""
    rng = np.random.default_rng(10)
    for _ in range(300):
        count = int(rng.integers(1, 12))
        apart = [pair for pair in combinations(range(count), 2) if rng.random() < 0.5]
        letters = compact_letters(count, apart)

        assert all(letters)
        for i, j in combinations(range(count), 2):
            assert bool(set(letters[i]) & set(letters[j])) == ((i, j) not in apart)


def test_letters_of_a_row_of_neighbours() -> None:
    """As in a textbook: the first and the last differ."""
    assert compact_letters(3, [(0, 2)]) == ["a", "ab", "b"]
    assert compact_letters(3, []) == ["a", "a", "a"]
    assert compact_letters(3, [(0, 1), (0, 2), (1, 2)]) == ["a", "b", "c"]
    assert compact_letters(0, []) == []


def test_the_probability_of_being_best_is_a_share() -> None:
    """It sums to one, follows the direction, and equal configurations share it."""
    values = scores(np.random.default_rng(11), 3, 5, 20, sds=(0.1, 0.1, 0.1), means=(1.0, 0.0, 0.0))

    best = probability_best(values, "maximize")
    assert best.sum() == pytest.approx(1.0)
    assert best[0] > 0.99
    assert probability_best(values, "minimize")[0] < 0.01
    twins = np.stack([values[0], values[0]])
    assert probability_best(twins, "maximize") == pytest.approx([0.5, 0.5])


def test_an_interval_holds_the_mean_as_often_as_it_says() -> None:
    """The interval of one configuration: at least 94 of 100."""
    values = scores(np.random.default_rng(12), 4000, 5, 12, sds=(0.5, 1.0, 1.0))
    estimate = estimate_mean(mean_squares(values), random_cases=True)

    assert (np.abs(estimate.mean) <= estimate.half_width(0.05)).mean() > 0.94

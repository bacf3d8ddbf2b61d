"""Gaussian process over the points of a study that begins with the results of other tasks.

Values of a task are z = (y - a) / b; over all tasks z(t, x) = f(x) + g_t(x) + noise, where f is what tasks have in
common. Of tasks that are known a is the mean and b the standard deviation. Of the study's own both follow from its
trials: a by generalised least squares, b by maximum likelihood, in closed form. A second model knows nothing of other
tasks; the one under which the study's trials are likelier is used, so that a study unlike all others is not led astray
for long.

Williams, Rasmussen: Gaussian Processes for Machine Learning (2006), section 2.7 (explicit basis functions). Swersky,
Snoek, Adams: Multi-Task Bayesian Optimization, NeurIPS 2013.

Shapes: r rows of other tasks, n trials of the study, m points to be judged.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.linalg import cho_solve, cholesky, solve_triangular

from tuner.search.kernel import KernelSettings, Points, covariance
from tuner.search.trial_table import Floats

PRIOR_ODDS = 4.0
"""How much likelier it is held, before any trial, that other tasks tell something than that they tell nothing."""
_JITTER = 1e-8


@dataclass(frozen=True, slots=True)
class TaskRows:
    """Results of another task."""

    points: Points
    values: Floats
    """[r], higher is better."""
    seeds: Floats
    """[r], how many each is the mean of."""


@dataclass(frozen=True, slots=True)
class Judged:
    """Points together with what other tasks say of them."""

    points: Points
    solved: Floats
    """[r, m], the whitened covariance with the rows of other tasks."""
    mean: Floats
    """[m], of z."""

    def take(self, places: Floats | Sequence[int]) -> "Judged":
        """Return some of the points."""
        chosen = np.asarray(places, dtype=np.int64)
        return Judged(self.points.take(chosen), self.solved[:, chosen], self.mean[chosen])


class OtherTasks:
    """What the results of other tasks say of any point."""

    def __init__(self, tasks: Sequence[TaskRows], settings: KernelSettings) -> None:
        self.settings = settings
        self._points = Points.join([task.points for task in tasks]) if tasks else None
        if self._points is None:
            return
        number = np.concatenate([np.full(len(task.points), i) for i, task in enumerate(tasks)])
        shared, own = covariance(self._points, self._points, [settings.shared, settings.own])
        noise = settings.noise / np.concatenate([task.seeds for task in tasks])
        full = shared + own * (number[:, None] == number[None, :]) + np.diag(noise + _JITTER)
        self._factor = cholesky(full, lower=True)
        z = np.concatenate([_standardized(task.values) for task in tasks])
        self._whitened = solve_triangular(self._factor, z, lower=True)

    def judge(self, points: Points) -> Judged:
        """Return points with what is known of them."""
        if self._points is None:
            return Judged(points, np.zeros((0, len(points))), np.zeros(len(points)))
        cross = covariance(self._points, points, [self.settings.shared])[0]
        solved = solve_triangular(self._factor, cross, lower=True)
        return Judged(points, solved, solved.T @ self._whitened)

    def covariance(self, one: Judged, other: Judged) -> Floats:
        """Return the covariance [n, m] of z in a task of its own, after the other tasks."""
        found: Floats = _untaught(one.points, other.points, self.settings) - one.solved.T @ other.solved
        return found


def forget(judged: Judged) -> Judged:
    """Return points without what other tasks say of them."""
    return Judged(judged.points, np.zeros((0, len(judged.points))), np.zeros(len(judged.points)))


def _untaught(one: Points, other: Points, settings: KernelSettings) -> Floats:
    shared, own = covariance(one, other, [settings.shared, settings.own])
    found: Floats = shared + own
    return found


def _standardized(values: Floats) -> Floats:
    spread = float(values.std())
    found: Floats = (values - values.mean()) / (spread if spread > 0 else 1.0)
    return found


@dataclass(frozen=True, slots=True)
class Fit:
    """The process after the trials of a study."""

    tasks: OtherTasks
    told: Judged
    factor: Floats
    """[n, n], lower: the Cholesky factor of their covariance with noise."""
    weights: Floats
    """[n], the inverse of that covariance times (z - mean)."""
    shift: float
    """a"""
    scale: float
    """b"""
    evidence: float
    """Logarithm of the likelihood of the values."""
    learnt: bool
    """Whether other tasks are used."""

    def predict(self, points: Judged) -> tuple[Floats, Floats]:
        """Return mean and standard deviation of the mean over seeds at points, in the units of the values."""
        points = points if self.learnt else forget(points)
        settings = self.tasks.settings
        prior = sum(getattr(a, name) for a in (settings.shared, settings.own) for name in ("loss", "common", "branch"))
        mean = points.mean.copy()
        variance = prior - (points.solved**2).sum(0)
        if len(self.told.points):
            cross = self.tasks.covariance(self.told, points)
            mean += cross.T @ self.weights
            variance -= (solve_triangular(self.factor, cross, lower=True) ** 2).sum(0)
        return self.shift + self.scale * mean, self.scale * np.sqrt(np.maximum(variance, 1e-12))

    def with_running(self, running: Judged) -> "Fit":
        """Return the fit as if running trials had ended at what is expected of them: less uncertain, not better."""
        if not len(running.points):
            return self
        running = running if self.learnt else forget(running)
        told = join(self.told, running)
        cross = self.tasks.covariance(self.told, running)
        below = solve_triangular(self.factor, cross, lower=True)
        corner = self.tasks.covariance(running, running) - below.T @ below
        corner[np.diag_indices_from(corner)] += self.tasks.settings.noise + _JITTER
        n, m = len(self.told.points), len(running.points)
        factor = np.zeros((n + m, n + m))
        factor[:n, :n], factor[n:, :n] = self.factor, below.T
        factor[n:, n:] = cholesky(corner, lower=True)
        weights = np.concatenate([self.weights, np.zeros(m)])
        return Fit(self.tasks, told, factor, weights, self.shift, self.scale, self.evidence, self.learnt)


def join(*several: Judged) -> Judged:
    """Return the points of several, one after the other."""
    return Judged(
        Points.join([judged.points for judged in several]),
        np.concatenate([judged.solved for judged in several], axis=1),
        np.concatenate([judged.mean for judged in several]),
    )


def fit(tasks: OtherTasks, told: Judged, values: Floats, noise: Floats) -> Fit:
    """Fit the values [n] of trials, whose noise is `noise` [n] times that of a whole training; higher is better."""
    taught = _fit(tasks, told, values, noise, learnt=True)
    untaught = _fit(tasks, forget(told), values, noise, learnt=False)
    return taught if taught.evidence + math.log(PRIOR_ODDS) >= untaught.evidence else untaught


def _fit(tasks: OtherTasks, told: Judged, values: Floats, noise: Floats, *, learnt: bool) -> Fit:
    n = len(values)
    full = tasks.covariance(told, told)
    full[np.diag_indices_from(full)] += tasks.settings.noise * noise + _JITTER
    factor = cholesky(full, lower=True) if n else full
    shift, scale, evidence = 0.0, 1.0, 0.0
    if n:
        shift, scale, evidence = _units(factor, told.mean, values)
    rest = (values - shift) / scale - told.mean
    weights = cho_solve((factor, True), rest) if n else rest
    return Fit(tasks, told, factor, weights, shift, scale, evidence, learnt)


def _units(factor: Floats, mean: Floats, values: Floats) -> tuple[float, float, float]:
    """Return a and b of y = a + b z for z of this mean [n] and factor [n, n], and the likelihood's logarithm."""
    n = len(values)
    ones, y, m = (solve_triangular(factor, v, lower=True) for v in (np.ones(n), values, mean))
    norm = float(ones @ ones)

    def product(one: Floats, other: Floats) -> float:
        return float(one @ other - (one @ ones) * (ones @ other) / norm)

    yy, ym, mm = product(y, y), product(y, m), product(m, m)
    if n < 2 or yy <= 1e-18:
        return float(values.mean() - mean.mean()), 1.0, 0.0
    inverse = (ym + math.sqrt(ym**2 + 4.0 * yy * (n - 1))) / (2.0 * yy)
    scale = 1.0 / inverse
    shift = float(ones @ (y - scale * m)) / norm
    determinant = float(np.log(np.diag(factor)).sum())
    likelihood = (n - 1) * math.log(inverse) - 0.5 * (inverse**2 * yy - 2 * inverse * ym + mm)
    return shift, scale, likelihood - determinant - 0.5 * math.log(norm)

"""Samplers and pruners: what there is, and what each can be told. Imports neither Optuna nor torch."""

from dataclasses import dataclass

from tuner.registry import Option, Registry


@dataclass(frozen=True, slots=True)
class SamplerSpec:
    """One way to choose the next point. `fn(space, directions, seed, options)` makes the sampler."""

    name: str
    fn: str
    summary: str
    options: tuple[Option, ...] = ()


@dataclass(frozen=True, slots=True)
class PrunerSpec:
    """One rule that ends hopeless trials early. `fn(options, epochs, validate_every)` makes the pruner."""

    name: str
    fn: str
    summary: str
    options: tuple[Option, ...] = ()


_STARTUP = Option(
    "startup_trials",
    "int",
    10,
    "Trials before the model is trusted; until then it draws at random.",
    low=0,
    high=10_000,
)

DEFAULT_SAMPLER, DEFAULT_PRUNER = "auto", "auto"
"""Of studies that name none: see `benchmarks/lossbench/results.md`."""

SAMPLERS: Registry[SamplerSpec] = Registry(
    "sampler",
    (
        SamplerSpec(
            "auto",
            "tuner.search.auto:auto",
            "Gaussian process that begins with what LossBench's tasks tell; with several objectives TPE. The default.",
            (Option("prior", "bool", True, "Whether the results of LossBench's tasks are used."),),
        ),
        SamplerSpec(
            "tpe",
            "tuner.search.tpe:tpe",
            "Tree-structured Parzen estimator, multivariate, by group, with constant liar.",
            (
                _STARTUP,
                Option(
                    "candidates",
                    "int",
                    24,
                    "Points compared by expected improvement for each trial.",
                    low=1,
                    high=10_000,
                ),
            ),
        ),
        SamplerSpec("random", "tuner.search.space_filling:random", "Independent draws; the honest baseline."),
        SamplerSpec(
            "gp",
            "tuner.search.gp:gp",
            "Gaussian process, one for each loss, the loss itself chosen by TPE. Strong for few, expensive trials.",
            (_STARTUP,),
        ),
        SamplerSpec(
            "cmaes",
            "tuner.search.evolution:cmaes",
            "CMA-ES, one for each loss, the loss itself chosen by TPE. For many trials over numeric options.",
            (_STARTUP,),
        ),
        SamplerSpec(
            "qmc",
            "tuner.search.space_filling:qmc",
            "Scrambled Sobol points, one sequence for each loss: even coverage.",
        ),
        SamplerSpec(
            "nsga2",
            "tuner.search.evolution:nsga2",
            "Evolutionary, for several objectives.",
            (Option("population", "int", 50, "Trials in a generation.", low=2, high=10_000),),
        ),
        SamplerSpec("grid", "tuner.search.space_filling:grid", "Every valid combination; intervals need `steps: N`."),
    ),
)

_MIN_EPOCHS = Option(
    "min_epochs",
    "int",
    None,
    "Epochs before a trial may be ended; null means max(3, epochs // 3).",
    low=1,
    high=100_000,
    nullable=True,
)
_MIN_TRIALS = Option("min_trials", "int", 10, "Finished trials before the first one may be ended.", low=0, high=100_000)
_MIN_PEERS = Option(
    "min_peers",
    "int",
    4,
    "Trials of the same loss needed at an epoch; with fewer, all trials are the peers.",
    low=1,
    high=100_000,
)
_REDUCTION = Option("reduction_factor", "int", 3, "One trial in this many goes on at each rung.", low=2, high=20)

PRUNERS: Registry[PrunerSpec] = Registry(
    "pruner",
    (
        PrunerSpec(
            "auto",
            "tuner.search.pruners:staged",
            "Ends what is not in the best third after 1/3 of the epochs, 25 % after 1/2, 20 % after 2/3. The default.",
            (
                _MIN_EPOCHS,
                Option(
                    "min_trials", "int", 6, "Finished trials before the first one may be ended.", low=0, high=100_000
                ),
                Option("min_peers", "int", 4, "Trials needed at an epoch.", low=1, high=100_000),
                Option("hearing", "int", 0, "Trials of each loss that go on to half of the epochs.", low=0, high=1000),
            ),
        ),
        PrunerSpec(
            "median",
            "tuner.search.pruners:median",
            "Ends a trial whose best value so far is below the median of its peers' at the same epoch.",
            (_MIN_EPOCHS, _MIN_TRIALS, _MIN_PEERS),
        ),
        PrunerSpec(
            "percentile",
            "tuner.search.pruners:percentile",
            "As median, with a share of one's own.",
            (
                Option(
                    "percentile",
                    "float",
                    25.0,
                    "Percent of the peers, from the best down, that go on.",
                    low=1.0,
                    high=99.0,
                ),
                _MIN_EPOCHS,
                _MIN_TRIALS,
                _MIN_PEERS,
            ),
        ),
        PrunerSpec(
            "successive_halving",
            "tuner.search.pruners:successive_halving",
            "Asynchronous successive halving: at each rung the best 1/reduction_factor go on.",
            (_MIN_EPOCHS, _REDUCTION, _MIN_TRIALS, _MIN_PEERS),
        ),
        PrunerSpec(
            "hyperband",
            "tuner.search.pruners:hyperband",
            "Successive halving with several patiences side by side, dealt out by the place in the budget.",
            (_MIN_EPOCHS, _REDUCTION, _MIN_TRIALS, _MIN_PEERS),
        ),
        PrunerSpec("none", "tuner.search.pruners:none", "Never ends a trial."),
    ),
)

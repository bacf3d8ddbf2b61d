"""Old place of `EpochReport` (0.1.0)."""

from tuner.deprecated import moved

__getattr__ = moved(
    __name__, {"EpochReport": "tuner.training.run_dir:EpochReport", "Diverged": "tuner.training.run_dir:Diverged"}
)

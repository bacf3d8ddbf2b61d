"""Old place of `EpochReport` (0.1.0)."""

from tuner.deprecated import moved

_NEW = "tuner.training.epoch_report"
__getattr__ = moved(__name__, {"EpochReport": f"{_NEW}:EpochReport", "Diverged": f"{_NEW}:Diverged"})

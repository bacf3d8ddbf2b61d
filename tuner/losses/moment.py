"""When in the training a loss is asked, for those that change on the way."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Moment:
    """An epoch, counted from 1, of so many; the default is the end, where every schedule has arrived."""

    epoch: int = 1
    epochs: int = 1

    @property
    def progress(self) -> float:
        """Share of the training that lies behind, 0.0 in the first epoch and 1.0 in the last."""
        return 1.0 if self.epochs <= 1 else min(1.0, (self.epoch - 1) / (self.epochs - 1))


END = Moment()

"""All losses, by name: the survey's families in the survey's order, then what came after. Imports no torch."""

from tuner.losses.entry import LossEntry
from tuner.losses.rows.beyond import BEYOND
from tuner.losses.rows.boundary import BOUNDARY
from tuner.losses.rows.combination import COMBINATION
from tuner.losses.rows.pixel import PIXEL
from tuner.losses.rows.region import REGION
from tuner.registry import Registry

FAMILIES: tuple[str, ...] = ("pixel", "region", "boundary", "combination")

LOSSES: Registry[LossEntry] = Registry("loss", PIXEL, REGION, BOUNDARY, COMBINATION, BEYOND)

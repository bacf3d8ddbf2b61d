"""Every network that a study may name. Importing this imports neither torch nor MONAI."""

from tuner.models.catalog import MONAI
from tuner.models.entry import ModelEntry
from tuner.models.extras import EXTRAS
from tuner.models.survey import SURVEY
from tuner.registry import Registry

MODELS: Registry[ModelEntry] = Registry("model", SURVEY, MONAI, EXTRAS)

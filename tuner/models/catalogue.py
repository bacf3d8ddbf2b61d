"""Every network that a study may name. Importing this imports neither torch nor MONAI."""

from tuner.models.entry import ModelEntry
from tuner.models.rows.extras import EXTRAS
from tuner.models.rows.monai import MONAI
from tuner.models.rows.survey import SURVEY
from tuner.registry import Registry

MODELS: Registry[ModelEntry] = Registry("model", SURVEY, MONAI, EXTRAS)

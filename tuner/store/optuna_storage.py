"""Old place of `optuna_storage` (0.1.0)."""

from tuner.deprecated import moved

__getattr__ = moved(__name__, {"optuna_storage": "tuner.storage.optuna_schema:optuna_storage"})

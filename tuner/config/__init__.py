"""Study files: YAML, the study it describes, the configuration of one trial.

`TrialConfig`, `load_config`, `StudySpec` and `load_spec` can be imported from here.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tuner.config.study import StudySpec, load_spec
    from tuner.config.trial import TrialConfig, load_config

__all__ = ["StudySpec", "TrialConfig", "load_config", "load_spec"]

_MODULES = {"StudySpec": "study", "load_spec": "study", "TrialConfig": "trial", "load_config": "trial"}


def __getattr__(name: str) -> Any:
    # on demand: importing one module of the package must not import all others
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)

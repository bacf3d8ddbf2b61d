"""Which loss, with which options, for my segmentation data: the search, as a service."""

from importlib import import_module
from typing import Any

__version__ = "0.2.0"

_PUBLIC = {
    "Client": "tuner.client",
    "Study": "tuner.study",
    "TunerError": "tuner.errors",
    "heartbeat": "tuner.training.custom",
    "load_study": "tuner.study",
    "losses": "",
    "run_study": "tuner.study",
}
"""Public names and where they live: imported when they are asked for, so that `import tuner` costs nothing."""

__all__ = ["Client", "Study", "TunerError", "__version__", "heartbeat", "load_study", "losses", "run_study"]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if not _PUBLIC[name]:
        return import_module(f"{__name__}.{name}")
    return getattr(import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return sorted(set(__all__) | set(globals()))

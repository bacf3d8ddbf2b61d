"""Single networks of MONAI, without the rest of it.

`import monai` imports all of MONAI and, where they are installed, pandas and most of scipy: 2.7 s of CPU in every
worker, of which a network needs a tenth. So the packages whose `__init__` imports everything are left out, and so are
those that MONAI can do without. What was imported so is kept here and not in `sys.modules`: whoever imports MONAI in
the same process gets the whole of it, as ever.
"""

import contextlib
import sys
import threading
from collections.abc import Iterator
from importlib import import_module, metadata
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

SHELLS = ("monai", "monai.networks.nets")
"""Packages whose `__init__` is not run."""
FIRST = "monai.apps"
"""MONAI's packages import each other in circles: this one comes first in its own `__init__`, too."""
OPTIONAL = ("ignite", "pandas", "scipy.signal", "scipy.stats", "skimage")
"""Packages that MONAI imports where they are installed, and no network needs."""

_kept: dict[str, ModuleType] = {}
_lock = threading.Lock()


def monai_network(module: str, name: str) -> Any:
    """Return a class of `monai.networks.nets.<module>`. Raises ImportError where MONAI is not installed."""
    path = f"monai.networks.nets.{module}"
    if "monai" in sys.modules:
        return getattr(import_module(path), name)
    with _lock:
        try:
            with _alone():
                return getattr(import_module(path), name)
        except ImportError:  # of another release, in which these packages depend on each other in another way
            _kept.clear()
    return getattr(import_module(path), name)


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """Have in `sys.modules`, for the time of the body, what was imported here before, and shells for the rest."""
    hidden = [package for package in OPTIONAL if package not in sys.modules]
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]  # None: as if it were not installed
    try:
        if not _kept:
            _make_shells()
            import_module(FIRST)
        sys.modules.update(_kept)
        yield
    finally:
        for package in hidden:
            sys.modules.pop(package, None)
        ours = [name for name in sys.modules if name.partition(".")[0] == "monai"]
        _kept.update({name: sys.modules.pop(name) for name in ours})


def _make_shells() -> None:
    spec = find_spec("monai")
    if spec is None or not spec.submodule_search_locations:
        raise ImportError("MONAI is not installed", name="monai")
    root = Path(spec.submodule_search_locations[0])
    for name in SHELLS:
        shell = ModuleType(name)
        shell.__path__ = [str(root.joinpath(*name.split(".")[1:]))]
        sys.modules[name] = shell
    vars(sys.modules["monai"])["__version__"] = metadata.version("monai")

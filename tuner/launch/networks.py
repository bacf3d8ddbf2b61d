"""Whether the networks of a study can be trained on its data here, before a trial is stored. Imports no torch."""

from collections.abc import Collection, Iterator
from importlib.util import find_spec

from tuner.config.study import StudySpec
from tuner.errors import ConfigError, EntryError, SpecError
from tuner.models.catalogue import MODELS
from tuner.models.dims import dims_problem
from tuner.models.entry import ENTRY, WEIGHTS
from tuner.models.weights_path import find_weights
from tuner.settings import Settings

EXTRAS = {"smp": ("torchvision", "timm", "segmentation_models_pytorch")}
"""Packages that an extra brings."""


def check_models(spec: StudySpec, settings: Settings, *, spatial_dims: int, trains_here: bool) -> None:
    """Check every network that the study may train.

    Args:
        spec: The study.
        settings: Where weights lie.
        spatial_dims: Of the samples.
        trains_here: Whether workers of this machine train; elsewhere other packages and files may be there.

    Raises:
        SpecError: A network is not made for such samples.
        ConfigError: A network needs a package that is not installed.
        EntryError: A network is code of the user's own, of a package that may not be imported here.
        DataError: A file of pretrained weights is not there.
    """
    if spec.base.train.entry is not None:
        return  # a training of the user's own builds what it likes
    rows = [MODELS[name] for name in model_names(spec) if name in MODELS]
    problems = [problem for row in rows for problem in dims_problem(row, spatial_dims)]
    if problems:
        raise SpecError(problems)
    if not trains_here:
        return
    for row in rows:
        missing = [name for name in EXTRAS.get(row.extra, ()) if find_spec(name) is None]
        if missing:
            raise ConfigError(
                f"the model {row.name!r} needs {', '.join(missing)}, not installed here.",
                hint=f"Install them: pip install 'segmentation-tuner[{row.extra}]' (torchvision of torch's own build).",
                where="model.name",
            )
    if spec.base.model.get("name") == ENTRY:
        _check_allowed(str(spec.base.model["entry"]), settings.allow_entry)
    for name in weights_names(spec):
        find_weights(name, settings.data_root)


def _check_allowed(path: str, allowed: Collection[str]) -> None:
    package = path.partition(":")[0].partition(".")[0]
    if package not in allowed:
        raise EntryError(
            f"code of the package {package!r} may not be imported on this machine.",
            hint=f"Its owner can allow it: TUNER_ALLOW_ENTRY={package}.",
            where="model.entry",
        )


def model_names(spec: StudySpec) -> list[str]:
    """Return the names of the networks that compete, or of the one that is fixed."""
    searched = spec.search.raw.get("model.name")
    if searched is not None:
        return [searched] if isinstance(searched, str) else [str(name) for name in searched]
    return [str(spec.base.model["name"])] if "name" in spec.base.model else []


def weights_names(spec: StudySpec) -> Iterator[str]:
    """Yield the files of pretrained weights that the study names, fixed or searched."""
    given = [spec.base.model.get(WEIGHTS.name)]
    for key, value in spec.search.raw.items():
        if key.startswith("model.") and key.endswith(f".{WEIGHTS.name}"):
            given.extend(value if isinstance(value, (list, tuple)) else [value])
    yield from (name for name in given if isinstance(name, str))

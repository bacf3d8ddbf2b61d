"""Custom models: `model: {entry: package.module:function}`.

The function is called with the keywords `channels`, `classes`, `spatial_dims` and the options that stand beside
`entry`, and returns a torch module that maps [B, channels, *S] to logits [B, classes, *S]. The module may say more by
attributes: `stride` (input sizes must be multiples of it), `classifier` (the layer that makes logits of features) and
`effective_options()`.

`model: {entry: package.module:function, width: 32}`; what stands beside `entry` is handed to the function as it is.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from tuner.errors import EntryError
from tuner.models.catalog import ENTRY, SPELLING, WEIGHTS
from tuner.registry import Option, Scalar, Search

WHERE = "model.entry"
KEYS = ("logits", "out")
"""Where networks that return a mapping keep what they are about."""


class UserNet(nn.Module):
    """A network of the user's own with what this project asks of one."""

    def __init__(self, net: nn.Module, path: str, options: Mapping[str, Any], classes: int) -> None:
        super().__init__()
        self.net, self.path, self.options, self.classes = net, path, dict(options), classes
        stride = getattr(net, "stride", 1)
        if not isinstance(stride, int) or stride < 1:
            raise EntryError(f"{path}: `stride` of the network is {stride!r}, not a positive integer.", where=WHERE)
        self.stride = stride

    @classmethod
    def made_by(
        cls,
        maker: Callable[..., Any],
        path: str,
        *,
        channels: int,
        classes: int,
        spatial_dims: int,
        options: Mapping[str, Any],
    ) -> "UserNet":
        """Call the user's function. Raises EntryError when it fails, or returns something else than a torch module."""
        keywords = {"channels": channels, "classes": classes, "spatial_dims": spatial_dims, **options}
        _check_keywords(maker, path, keywords)
        try:
            net = maker(**keywords)
        except Exception as error:
            raise EntryError(f"{path} failed: {type(error).__name__}: {error}", where=WHERE) from error
        if not isinstance(net, nn.Module):
            raise EntryError(f"{path} returned {type(net).__name__}; it must return a torch module.", where=WHERE)
        return cls(net, path, options, classes)

    @property
    def classifier(self) -> Any:
        """The layer that makes logits of features, where the network says which."""
        return getattr(self.net, "classifier", None)

    @property
    def classifier_is_residual(self) -> bool:
        """Whether the classifier's input is added to its output."""
        return bool(getattr(self.net, "classifier_is_residual", False))

    def forward(self, images: Tensor) -> Tensor:
        """Map [B, channels, *S] to logits [B, classes, *S]."""
        return as_logits(self.net(images), self.classes, images.shape[2:], self.path)

    def effective_options(self) -> dict[str, Scalar]:
        """Return what the network says that it uses; of one that says nothing, what its function was given."""
        told = getattr(self.net, "effective_options", None)
        own = {str(k).removeprefix("model."): v for k, v in dict(told()).items()} if callable(told) else {}
        return {"entry": self.path, **self.options, **{k: v for k, v in own.items() if k in self.options}}


def as_logits(found: Any, classes: int, sizes: Sequence[int], path: str) -> Tensor:
    """Take the logits [B, classes, *S] out of what a network returned.

    Several outputs, as those of deep supervision, are a sequence, whose first has the size of the input, or one tensor
    [B, outputs, classes, *S], of which the first counts; a mapping holds them as `logits` or `out`.

    Raises:
        EntryError: There is nothing of that shape.
    """
    candidates = [found]
    if isinstance(found, Mapping):
        candidates = [found[key] for key in KEYS if key in found] or list(found.values())
    elif isinstance(found, (list, tuple)):
        candidates = list(found)
    wanted = (classes, *sizes)
    for candidate in candidates:
        if not torch.is_tensor(candidate):
            continue
        if tuple(candidate.shape[1:]) == wanted:
            return candidate
        if candidate.ndim == len(wanted) + 2 and tuple(candidate.shape[2:]) == wanted:
            return candidate[:, 0]
    shapes = ", ".join(str(tuple(c.shape)) if torch.is_tensor(c) else type(c).__name__ for c in candidates)
    raise EntryError(
        f"{path}: the network returned {shapes or type(found).__name__}; it must return logits of shape "
        f"(batch, {', '.join(map(str, wanted))}).",
        hint="A network that wants sizes divisible by N says so by an attribute `stride = N`.",
        where=WHERE,
    )


def _check_keywords(maker: Callable[..., Any], path: str, keywords: Mapping[str, Any]) -> None:
    try:
        inspect.signature(maker).bind(**keywords)
    except (TypeError, ValueError) as error:
        raise EntryError(
            f"{path} cannot be called with {', '.join(keywords)}: {error}.",
            hint="It takes the keywords channels, classes, spatial_dims, and the options that stand beside `entry`.",
            where=WHERE,
        ) from error


HANDED_OVER = ("channels", "classes", "spatial_dims")
"""Keywords that the function is given by the training."""

_SCALARS = (bool, int, float, str, type(None))


def is_own(given: object) -> bool:
    """Tell whether a `model` section names a function of the user's own."""
    return isinstance(given, Mapping) and ("entry" in given or given.get("name") == ENTRY)


def own_model_section(given: Mapping[str, Any], problems: list[str]) -> dict[str, Any]:
    """Check the section and return it with the name `entry`. Problems are appended, never raised."""
    options = {str(key): value for key, value in given.items()}
    name, path = options.pop("name", ENTRY), options.pop("entry", None)
    found = []
    if name != ENTRY:
        found.append(f"model: {name!r} is a model of the catalogue, `entry` one of your own; keep one of the two")
    if not isinstance(path, str) or not SPELLING.fullmatch(path):
        found.append(f"model.entry: {path!r} is not spelt `package.module:function`")
    for key, value in options.items():
        problem = WEIGHTS.problem(value) if key == WEIGHTS.name else option_problem(key, value)
        if problem:
            found.append(f"model.{key}: {problem}")
    problems.extend(found)
    return {} if found else {"name": ENTRY, "entry": path, **options}


def option_problem(name: str, value: object) -> str | None:
    """Say what is wrong with an option for a function of the user's own."""
    if not name.isidentifier():
        return f"{name!r} cannot be a keyword of a function"
    if name in HANDED_OVER:
        return f"{name!r} comes from the data; choose another name"
    items = value if isinstance(value, list) else [value]
    if not all(isinstance(item, _SCALARS) for item in items):
        return f"{value!r} is neither a number, text, true, false or null, nor a list of them"
    return None


class OwnOption(Option):
    """An option of a function of the user's own, of which nothing is known: any scalar is legal."""

    __slots__ = ()

    def problem(self, value: object) -> str | None:
        """Say what is wrong with a value that is searched."""
        if isinstance(value, list):
            return "only scalars can be searched"
        return option_problem(self.name, value)

    def legal(self) -> str:
        """Describe what is legal."""
        return "any scalar"


def own_option(name: str, given: object) -> OwnOption:
    """Describe an option by what the study file searches of it: integers where both ends of a range are."""
    ends = [given.get("low"), given.get("high")] if isinstance(given, Mapping) else []
    whole = all(isinstance(end, int) and not isinstance(end, bool) for end in ends)
    kind: Any = "str" if not ends else "int" if whole else "float"
    default: Scalar = None
    return OwnOption(name, kind, default, "An option of the function that `entry` names.", search=Search())

"""A property that is computed once, in a form that torch.compile can follow (functools' takes a lock)."""

from collections.abc import Callable
from typing import Any, Generic, Protocol, TypeVar

T = TypeVar("T")


class Keeper(Protocol):
    """An object with a place for what was computed."""

    @property
    def kept(self) -> dict[str, Any]:
        """Values by name."""
        ...


class Once(Generic[T]):
    """Decorates a method of a `Keeper`: its first result stays in `kept`."""

    def __init__(self, read: Callable[[Any], T]) -> None:
        self.read = read
        self.name = read.__name__
        self.__doc__ = read.__doc__

    def __get__(self, instance: Keeper, owner: object = None) -> T:
        """Return the value, computed now or before."""
        if self.name not in instance.kept:
            instance.kept[self.name] = self.read(instance)
        value: T = instance.kept[self.name]
        return value

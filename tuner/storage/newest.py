"""What was computed for the newest revision of a study is true until the next one: a small memory."""

import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Newest(Generic[T]):
    """What was computed for the newest revision of each study; of few studies, the least recently used forgotten.

    What may be newer than its revision does no harm: a later revision asks again.
    """

    MOST = 32

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._kept: OrderedDict[str, tuple[int, T]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, identity: str, revision: int, make: Callable[[], T]) -> T:
        """Return what was made for this revision of a study, or make it."""
        with self._lock:
            found = self._kept.get(identity)
        if found is not None and found[0] == revision:
            return found[1]
        made = make()
        with self._lock:
            self._kept[identity] = (revision, made)
            self._kept.move_to_end(identity)
            if len(self._kept) > self._most:
                self._kept.popitem(last=False)
        return made

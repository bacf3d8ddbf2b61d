"""Old place of `Store` (0.1.0), now `Storage`."""

from tuner.deprecated import moved

__getattr__ = moved(
    __name__,
    {
        "Store": "tuner.storage.storage:Storage",
        "check": "tuner.storage.storage:check",
        "upgrade": "tuner.storage.storage:upgrade",
    },
)

"""The behaviour suite that others can subclass, on both kinds of storage."""

import pytest

from tuner.storage.storage import Storage
from tuner.testing.storage import StorageSuite


class TestStorage(StorageSuite):
    """A SQLite file and a PostgreSQL database."""

    @pytest.fixture
    def storage(self, store: Storage) -> Storage:
        """Once on each kind."""
        return store

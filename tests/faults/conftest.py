"""The same storages as the tests of the store."""

from tests.store.conftest import *  # noqa: F403 (fixtures that ask for each other)

"""A little of every scenario of the fault suite, on every storage that it is meant for."""

import os
import random
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.faults.environment import ground
from tests.faults.long_run import SCENARIOS, Scenario
from tests.faults.slow_worker import Nursery
from tests.postgres import Server, running_server

CASES = [
    pytest.param(
        scenario,
        storage,
        id=f"{scenario.name}-{storage}".replace(" ", "-"),
        marks=[pytest.mark.postgres] if storage == "postgresql" else [],
    )
    for scenario in SCENARIOS
    for storage in scenario.storages
]


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize(("scenario", "storage"), CASES)
def test_the_books_are_in_order_afterwards(
    scenario: Scenario, storage: str, tmp_path: Path, nursery: Nursery, request: pytest.FixtureRequest
) -> None:
    """Whatever fails, every trial ends once, and nothing that was reported is lost, doubled or other than it was."""
    if scenario.root and os.getuid() != 0:
        pytest.skip("only root may make a small disk")
    seed = random.SystemRandom().randrange(10**6)
    print(f"seed {seed}")  # noqa: T201
    with ExitStack() as stack:
        server: Server | None = None
        if scenario.own_server:
            server = stack.enter_context(running_server(durable=True))
        url = (
            server.new_database()
            if server
            else str(request.getfixturevalue("sqlite_url" if storage == "sqlite" else "postgres_url"))
        )
        here = stack.enter_context(ground(tmp_path, url, seed=seed, nursery=nursery, server=server))
        assert scenario.run(here)

"""The catalogue as JSON (the contract's fields) and as text."""

import pytest

from tests.cli.shell import Shell
from tuner.losses.catalog.registry import LOSSES

LOSS_FIELDS = {"name", "family", "survey", "options", "paper", "needs"}
OPTION_FIELDS = {"name", "type", "default", "low", "high", "choices", "search", "summary"}


def test_losses_as_json_have_the_fields_of_the_contract(tuner: Shell) -> None:
    """Forms and scripts are made from this document."""
    documents = tuner("losses", "--json").json()

    assert [document["name"] for document in documents] == list(LOSSES)
    for document in documents:
        assert document.keys() >= LOSS_FIELDS
        assert document["family"] in ("pixel", "region", "boundary", "combination")
        for option in document["options"]:
            assert option.keys() >= OPTION_FIELDS
            assert option["search"] is None or option["search"].keys() == {"low", "high", "log", "choices"}


@pytest.mark.parametrize("name", list(LOSSES))
def test_every_loss_is_shown_in_full(tuner: Shell, name: str) -> None:
    """Formula, paper and each option are what a user looks up."""
    result = tuner("losses", name)

    assert result.code == 0
    assert LOSSES[name].formula in result.out
    assert LOSSES[name].paper in result.out
    for option in LOSSES[name].options:
        assert f"loss.{name}.{option.name}" in result.out


@pytest.mark.parametrize("command", ["datasets", "models"])
def test_other_catalogues_speak_the_same_way(tuner: Shell, command: str) -> None:
    """List, JSON list, one row, JSON of one row."""
    rows = tuner(command, "--json").json()

    listed = tuner(command).out

    assert rows
    for row in rows:
        assert row["name"] in listed
        assert tuner(command, row["name"], "--json").json() == row
        shown = tuner(command, row["name"]).out
        for option in row["options"]:
            assert option["name"] in shown

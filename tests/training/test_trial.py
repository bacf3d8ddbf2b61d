"""What is built is what was asked for."""

import pytest
import torch

from tests.models.small import HERE, SMALL
from tests.training.samples import make_config
from tuner.data.preparation import PreparedData
from tuner.errors import EffectiveConfigError
from tuner.losses.catalog.registry import LOSSES
from tuner.registry import defaults
from tuner.training.components import build_components, check_effective


@pytest.mark.parametrize("loss", list(LOSSES))
def test_every_loss_hands_its_options_back(loss: str, data: PreparedData) -> None:
    """A loss that ignores an option would be searched in vain."""
    config = make_config(loss=loss)
    effective = build_components(config, data, "cpu").effective_options()

    assert effective["loss"] == loss
    assert {f"loss.{loss}.{option.name}" for option in LOSSES[loss].options} <= effective.keys()


@pytest.mark.parametrize("model", list(HERE))
def test_every_model_hands_its_options_back(model: str, data: PreparedData) -> None:
    """The same for networks."""
    config = make_config().model_copy(update={"model": {"name": model, **defaults(HERE[model]), **SMALL[model]}})
    effective = build_components(config, data, "cpu").effective_options()

    assert {k: v for k, v in config.parameters().items() if k.startswith("model.")} == {
        k: v for k, v in effective.items() if k.startswith("model.")
    }


def test_a_sum_of_the_users_own_comes_back_whole(data: PreparedData) -> None:
    """Weights and options of the terms are parameters like any other."""
    config = make_config(loss={"edgy": ["dice", "focal"]})
    effective = build_components(config, data, "cpu").effective_options()

    assert effective["loss.edgy.weight.focal"] == 1.0
    assert "loss.edgy.focal.gamma" in effective


def test_every_difference_is_named(data: PreparedData) -> None:
    """A trial that would train something else must fail, and say what differs."""
    config = make_config(loss="focal")
    effective = build_components(config, data, "cpu").effective_options()
    effective |= {"loss.focal.gamma": 3.0, "model.width": 64}
    del effective["model.depth"]

    with pytest.raises(EffectiveConfigError) as caught:
        check_effective(config, effective)
    message = str(caught.value)
    assert "loss.focal.gamma: 2.0 was asked for, 3.0 is used" in message
    assert "model.width: 4 was asked for, 64 is used" in message
    assert "model.depth: 2 was asked for, 'nothing' is used" in message


def test_weights_depend_on_the_seed_only(data: PreparedData) -> None:
    """Losses are compared from the same start."""
    first, second = (build_components(make_config(loss=loss), data, "cpu") for loss in ("dice", "focal"))
    other = build_components(make_config(seed=1), data, "cpu")

    assert all(torch.equal(a, b) for a, b in zip(first.model.parameters(), second.model.parameters(), strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(first.model.parameters(), other.model.parameters(), strict=True))

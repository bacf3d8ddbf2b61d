"""What a training needs of every network: gradients everywhere, half precision, both layouts, its state back."""

from typing import Any

import pytest
import torch
from torch import Tensor

from tests.models.small import HERE, SMALL, each
from tuner.losses.boundary_aware import DistanceHead
from tuner.losses.build import SegmentationLoss, build_loss
from tuner.losses.catalog.registry import LOSSES
from tuner.losses.inverse_form import FrozenRegressor, Regressor
from tuner.models.build import SegmentationNet, build_model
from tuner.models.features import FeatureTap

CLASSES = 3
SIZES = {2: (24, 20), 3: (12, 20, 17)}


def net(name: str, dims: int = 2, **options: Any) -> SegmentationNet:
    torch.manual_seed(0)
    return build_model({"name": name, **SMALL[name], **options}, channels=1, classes=CLASSES, spatial_dims=dims)


def image_of(dims: int) -> Tensor:
    return torch.randn(2, 1, *SIZES[dims], generator=torch.Generator().manual_seed(1))


def labels_of(dims: int) -> Tensor:
    labels = torch.zeros(2, *SIZES[dims], dtype=torch.long)
    labels[..., 4:11, 5:13] = 1
    labels[..., 12:19, 2:9] = 2
    return labels


def loss_of(name: str, tap: FeatureTap) -> SegmentationLoss:
    """A loss that knows the network; its regressor is an untrained one, for the training of that takes long."""
    loss = build_loss({"name": name}, classes=CLASSES, ignore_index=255, class_frequencies=(0.8, 0.1, 0.1))
    for state in loss.states():
        if isinstance(state, DistanceHead):
            state.adopt_features(tap.channels)
        if isinstance(state, FrozenRegressor):
            state.adopt(Regressor(torch.Generator().manual_seed(1)).state_dict())
    return loss


@each()
def test_every_parameter_gets_a_finite_gradient(name: str, dims: int) -> None:
    """A layer that is built and not used costs memory, and its weights decay to nothing in every checkpoint."""
    model = net(name, dims)
    torch.autograd.backward(model(image_of(dims)).square().mean())
    gradients = {key: parameter.grad for key, parameter in model.named_parameters() if parameter.requires_grad}

    assert [key for key, gradient in gradients.items() if gradient is None] == []
    assert [key for key, gradient in gradients.items() if not gradient.isfinite().all()] == []  # type: ignore[union-attr]
    assert sum(bool(gradient.any()) for gradient in gradients.values() if gradient is not None) > 0.7 * len(gradients)


@each(2)
def test_half_precision_and_channels_last(name: str, dims: int) -> None:
    """That is how a GPU trains; what fails there would be found on the day of the first long run."""
    model: Any = net(name)
    model = model.to(memory_format=torch.channels_last)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = model(image_of(2).contiguous(memory_format=torch.channels_last))
    torch.autograd.backward(logits.float().square().mean())

    assert logits.shape == (2, CLASSES, *SIZES[2])
    assert logits.isfinite().all()
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())


@each(2)
@torch.no_grad()
def test_a_state_makes_the_same_network_again(name: str, dims: int) -> None:
    """Best weights and checkpoints are states; whatever a network keeps elsewhere would be lost."""
    model, again = net(name).eval(), net(name).eval()
    for parameter in again.parameters():
        parameter.add_(0.1)
    again.load_state_dict(model.state_dict())

    assert torch.equal(model(image_of(2)), again(image_of(2)))


@each(2)
@torch.no_grad()
def test_the_seed_makes_the_weights(name: str, dims: int) -> None:
    """A trial that is repeated must begin with the same weights."""
    first, second = net(name).state_dict(), net(name).state_dict()

    assert all(torch.equal(first[key], second[key]) for key in first)


@pytest.mark.parametrize(
    ("name", "loss_name"),
    [
        # what a loss asks of a network is the same for two of them: both networks of our own see all losses
        pytest.param(
            name,
            loss_name,
            marks=[] if loss_name == "conditional_boundary" or name in ("unet", "transunet") else pytest.mark.slow,
        )
        for name, entry in HERE.items()
        if 2 in entry.dims
        for loss_name in ("conditional_boundary", "boundary_aware", "inverse_form")
    ],
)
def test_losses_get_what_they_ask_of_the_network(name: str, loss_name: str) -> None:
    """Features come from the layer before the classifier, whose gradients must reach the encoder."""
    model = net(name)
    tap = FeatureTap(model, classes=CLASSES)
    loss = loss_of(loss_name, tap)
    logits = model(image_of(2))
    given = tap.take(SIZES[2])
    torch.autograd.backward(loss(logits, labels_of(2), given))
    first = next(iter(model.parameters()))

    assert given["features"].shape == (2, tap.channels, *SIZES[2])
    assert given["classifier_weight"].shape == (CLASSES, tap.channels)
    assert first.grad is not None
    assert first.grad.isfinite().all()


@each(2)
@torch.no_grad()
def test_the_classifier_makes_the_logits(name: str, dims: int) -> None:
    """Features of another layer than the last would go unnoticed: here the layer is run again on what it was given."""
    model = net(name)
    kept: list[Tensor] = []
    tap = FeatureTap(model, classes=CLASSES)
    tap.classifier.register_forward_hook(lambda module, inputs, output: kept.append(output))
    logits = model(image_of(2))
    made = kept[-1]
    if getattr(model.network, "classifier_is_residual", False):
        return  # the logits are the sum with its input, which test_loss_parts looks at

    assert made.shape[1] == CLASSES
    torch.testing.assert_close(made[..., : SIZES[2][0], : SIZES[2][1]], logits)


@pytest.mark.slow
@each()
def test_every_loss_trains_every_network(name: str, dims: int) -> None:
    """Any pair may be drawn in a search."""
    model = net(name, dims)
    tap = FeatureTap(model, classes=CLASSES)
    with torch.no_grad():
        logits = model(image_of(dims))
        given = tap.take(SIZES[dims])
    for loss_name in LOSSES:
        leaf = logits.clone().requires_grad_()
        inputs = {key: value.detach().clone().requires_grad_() for key, value in given.items()}
        value = loss_of(loss_name, tap)(leaf, labels_of(dims), inputs)
        torch.autograd.backward(value)
        gradients = [tensor.grad for tensor in (leaf, *inputs.values()) if tensor.grad is not None]

        assert value.isfinite(), loss_name
        assert all(gradient.isfinite().all() for gradient in gradients), loss_name
        assert any(gradient.any() for gradient in gradients), loss_name

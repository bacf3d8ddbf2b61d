"""What losses get from the network and the data: features, target maps, a regressor; and that nothing of it drifts."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.training.samples import make_config, make_data
from tuner.config.trial import TrialConfig
from tuner.data.preparation import PreparedData
from tuner.data.target_maps import training_maps
from tuner.errors import SpecError
from tuner.label_maps import signed_distance
from tuner.losses.build import build_loss
from tuner.models.build import SegmentationNet, build_model
from tuner.models.features import FeatureTap
from tuner.training.components import attach_loss_inputs, build_components, regressor_weights
from tuner.training.loop import TrainingState
from tuner.training.trainer import train

NETS = [
    pytest.param({"name": "unet"}, id="unet"),
    pytest.param({"name": "monai_unet"}, id="monai"),
    pytest.param({"name": "monai_unet", "residual_units": 0}, id="monai without residuals"),
]


def loss_of(name: str) -> Any:
    return build_loss({"name": name}, classes=3, ignore_index=255, class_frequencies=(0.8, 0.1, 0.1))


def test_maps_of_samples_are_those_of_the_labels(data: PreparedData) -> None:
    """A map of another sample would train towards the wrong border."""
    maps = training_maps(data, {"signed_distance", "features"})

    assert set(maps) == {"signed_distance"}
    np.testing.assert_array_equal(
        maps["signed_distance"][5], signed_distance(data.train.labels[5], classes=3, void=255)
    )
    before = {path: path.stat().st_mtime_ns for path in data.folder.parent.rglob("*.npy")}
    training_maps(data, {"signed_distance"})
    assert before
    assert before == {path: path.stat().st_mtime_ns for path in data.folder.parent.rglob("*.npy")}


@pytest.mark.parametrize("loss", ["boundary", "distance_map_ce", "skeleton_recall", "blob", "hausdorff"])
def test_cached_maps_give_the_loss_of_maps_made_here(loss: str, data: PreparedData) -> None:
    """Caching must not change what is trained."""
    run = TrainingState(make_config(loss=loss, augment="none"), data, "cpu")
    index = torch.tensor([3, 0, 7])
    images, labels = run.samples.batch(index)
    logits = run.trial.logits(images)

    assert run.maps
    assert torch.equal(run.trial.loss(logits, labels, run.maps_of(index)), run.trial.loss(logits, labels))


def test_augmented_batches_have_their_own_maps(data: PreparedData) -> None:
    """Maps of unturned labels beside turned ones would be wrong without a sign of it."""
    assert TrainingState(make_config(loss="boundary", augment="light"), data, "cpu").maps == {}


def test_labels_out_of_range_are_found_in_the_first_batch(data: PreparedData) -> None:
    """On a GPU such a label is an error of the whole process, much later and without a name."""
    run = TrainingState(make_config(augment="none"), data, "cpu")
    data.train.labels[:] = 7
    with pytest.raises(Exception, match="7"):
        run.step(torch.arange(2), torch.Generator())


@pytest.mark.parametrize("net", NETS)
@pytest.mark.parametrize("size", [32, 30])
def test_features_are_what_the_network_classifies(net: dict[str, Any], size: int) -> None:
    """The loss's gradient must reach the decoder, in the logits' shape, and nothing may be kept without need."""
    model = build_model({"width": 4, "depth": 2} | net, channels=1, classes=3, spatial_dims=2)
    loss = loss_of("conditional_boundary")
    tap = FeatureTap(model, classes=3)
    labels = torch.zeros(2, size, size, dtype=torch.long)
    labels[:, 8:20, 8:20] = 1
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = model(torch.randn(2, 1, size, size))
    given = tap.take((size, size))
    given["features"].retain_grad()
    torch.autograd.backward(loss(logits, labels, given))

    assert given["features"].shape[2:] == (size, size)
    assert given["classifier_weight"].shape == (3, given["features"].shape[1])
    assert given["features"].grad is not None
    assert given["features"].grad.abs().sum() > 0
    model.eval()(torch.randn(1, 1, size, size))
    with pytest.raises(SpecError):
        tap.take((size, size))


def test_a_pointwise_classifier_makes_the_logits_of_the_features() -> None:
    """Features of another layer would go unnoticed otherwise."""
    model = build_model({"name": "unet", "width": 4, "depth": 2}, channels=1, classes=3, spatial_dims=2)
    tap = FeatureTap(model, classes=3)
    logits = model(torch.randn(1, 1, 21, 18))
    given = tap.take((21, 18))
    again = torch.einsum("cd,bdhw->bchw", given["classifier_weight"], given["features"])
    torch.testing.assert_close(again + given["classifier_bias"].view(1, -1, 1, 1), logits)


def test_a_network_without_a_classifier_is_refused(data: PreparedData) -> None:
    """Guessing features would optimise something without meaning; the auxiliary head can do without."""
    network = torch.nn.Sequential(torch.nn.Conv2d(1, 5, 1))
    network.stride = 1  # type: ignore[assignment]
    model = SegmentationNet("odd", network)

    with pytest.raises(SpecError, match="last convolution"):
        attach_loss_inputs(loss_of("conditional_boundary"), model, data)
    assert attach_loss_inputs(loss_of("boundary_aware"), model, data) is None
    assert attach_loss_inputs(loss_of("dice"), model, data) is None


def test_the_auxiliary_head_learns_from_features(data: PreparedData) -> None:
    """A head that the optimizer does not know stays noise."""
    run = TrainingState(make_config(loss="boundary_aware", augment="none"), data, "cpu")
    head = next(iter(run.trial.loss.states()))
    before = [p.detach().clone() for p in head.parameters()]
    run.step(torch.arange(4), torch.Generator())

    assert before[0].shape[2] == 4
    assert not any(torch.equal(old, new) for old, new in zip(before, head.parameters(), strict=True))
    assert any("first" in name for name in run.state(1)["loss"])


def test_the_regressor_is_trained_once_on_the_data(data: PreparedData, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every worker must use the same one, and its loss must have a gradient."""
    monkeypatch.setattr("tuner.losses.inverse_form.DATA_STEPS", 40)
    first = regressor_weights(data)
    again = regressor_weights(data)
    trial = build_components(make_config(loss="inverse_form"), data, "cpu")
    used = trial.loss.states()[0].state_dict()

    assert first is not None
    assert again is not None
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert all(torch.equal(value, used[f"regressor.{name}"]) for name, value in first.items())
    logits = torch.randn(2, 3, 32, 32, requires_grad=True)
    torch.autograd.backward(trial.loss(logits, torch.from_numpy(data.train.labels[:2]).long()))
    assert logits.grad is not None
    assert logits.grad.abs().sum() > 0


@pytest.mark.parametrize(
    "loss",
    [
        pytest.param("robust_t", marks=pytest.mark.slow),
        pytest.param("inverse_form", marks=pytest.mark.slow),
        "boundary_aware",
    ],
)
def test_a_stopped_training_ends_as_an_unbroken_one(
    loss: str, config: Callable[..., TrialConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a loss learns belongs to the checkpoint, as the network's weights do."""
    monkeypatch.setattr("tuner.losses.inverse_form.DATA_STEPS", 40)
    data = make_data(tmp_path / "prepared")
    asked = 0

    def late() -> bool:
        nonlocal asked
        asked += 1
        return asked > 9

    for name, stops in (("whole", (lambda: False,)), ("broken", (late, lambda: False))):
        for stop in stops:
            list(train(config(loss=loss), data=data, device="cpu", folder=tmp_path / name, stop=stop))
    whole, broken = (torch.load(tmp_path / n / "last.ckpt", weights_only=True) for n in ("whole", "broken"))
    for part in ("model", "loss"):
        assert whole[part].keys() == broken[part].keys()
        assert all(torch.equal(value, broken[part][name]) for name, value in whole[part].items())
    assert whole["loss"]

"""From configuration to loss: names, options, sums, and what is handed back."""

import inspect
import pickle
from dataclasses import replace
from typing import Any

import pytest
import torch

from tests.losses.images import FREQUENCIES, VOID, blobs, built, scores
from tuner.config.trial import loss_section
from tuner.errors import LossInputError, Problems, SpecError, UnknownNameError
from tuner.losses.build import SegmentationLoss, Term, build_loss
from tuner.losses.catalog.registry import LOSSES
from tuner.losses.inverse_form import FrozenRegressor, trained_weights
from tuner.losses.spec import LossSpec, ramp_end
from tuner.registry import Option


def build(config: dict[str, Any]) -> SegmentationLoss:
    return build_loss(config, classes=3, ignore_index=VOID, class_frequencies=FREQUENCIES)


def test_effective_options_are_what_was_configured(entry: LossSpec) -> None:
    """A trial whose loss hands back other values than were suggested trains something else."""
    options = {option.name: option.default for option in entry.options}

    effective = built(entry, options).effective_options()

    assert effective == {"loss": entry.name, **{f"loss.{entry.name}.{k}": v for k, v in options.items()}}


def other_values(entry: LossSpec) -> dict[str, Any]:
    """A legal value of every option that is not its default."""
    chosen: dict[str, Any] = {}
    for option in entry.options:
        if option.choices:
            chosen[option.name] = next(c for c in option.choices if c != option.default)
        elif option.type == "bool":
            chosen[option.name] = not option.default
        else:
            chosen[option.name] = option.high if option.default != option.high else option.low
    return chosen


def test_effective_options_are_what_reaches_the_formula(entry: LossSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    """A configuration that is compared with itself is always right; what the formula was called with is not."""
    chosen = other_values(entry)
    # nothing that leaves the loss itself out
    chosen |= {key: value for key, value in {"start": 0.0, "cross_entropy_weight": 0.5}.items() if key in chosen}
    loss = built(entry, {key: value for key, value in chosen.items() if key != "schedule"})
    term = loss.terms[entry.name]
    signature, seen = inspect.signature(term.function.formula), dict[str, Any]()

    def formula(*given: Any, **named: Any) -> Any:
        seen.update(signature.bind(*given, **named).arguments)
        return genuine(*given, **named)

    genuine = term.function.formula
    monkeypatch.setattr(term.function, "formula", formula)
    loss(scores(blobs((8, 8))), blobs((8, 8)))

    effective = loss.effective_options()
    for option in entry.own_options:
        if option.name not in entry.state_options:
            assert effective[f"loss.{entry.name}.{option.name}"] == seen[option.name]


def test_an_option_that_no_formula_takes_is_not_effective() -> None:
    """It would be searched in vain; handed back, it would look as if it had been used."""
    row = replace(LOSSES["dice"], options=(*LOSSES["dice"].options, Option("sharpness", "float", 1.0, "of nothing")))
    term = Term(row, {option.name: option.default for option in row.options}, FREQUENCIES)

    assert "sharpness" not in term.effective_options()
    assert term.effective_options().keys() == {option.name for option in LOSSES["dice"].options}


@pytest.mark.parametrize("preset", ["nnunet_2d", "nnunet_3d"])
def test_presets_of_dice_and_cross_entropy(preset: str) -> None:
    """nnU-Net: cross-entropy and Dice of all foreground classes, absent ones too, by batch or by image as planned."""
    target = blobs((8, 8))
    target[1] = 0
    logits, batch = scores(target), preset == "nnunet_2d"
    p, t = torch.softmax(logits, 1)[:, 1:], torch.nn.functional.one_hot(target, 3).movedim(-1, 1).double()[:, 1:]
    axes = (0, 2, 3) if batch else (2, 3)
    dice = (2 * (p * t).sum(axes) + 1e-5) / ((p + t).sum(axes) + 1e-5)
    theirs = torch.nn.functional.cross_entropy(logits, target) + 1 - dice.mean()

    torch.testing.assert_close(2 * built("dice_cross_entropy", {"preset": preset})(logits, target), theirs)
    assert loss_section({"name": "dice_cross_entropy", "preset": preset, "weight": 0.3}, Problems())[
        "dice_cross_entropy"
    ] == {
        **LOSSES["dice_cross_entropy"].presets[preset],
        "weight": 0.3,
    }
    problems = Problems()
    loss_section({"name": "dice_cross_entropy", "preset": "nnunet_4d"}, problems)
    assert len(problems) == 1
    assert problems[0].path == "loss.dice_cross_entropy.preset"
    assert "nnunet_2d" in str(problems[0])


def test_missing_options_have_their_default() -> None:
    """A configuration may leave out what it does not care about."""
    assert build({"name": "focal"}).effective_options()["loss.focal.gamma"] == 2.0


def test_options_reach_the_formula() -> None:
    """An option that is accepted and ignored would make a search blind."""
    target = blobs((8, 8))
    logits = scores(target)

    assert built("focal", {"gamma": 0.0})(logits, target) > built("focal", {"gamma": 4.0})(logits, target)


def test_effective_options_are_read_from_the_built_loss() -> None:
    """The check against the suggestion must see what is used, not what was written down."""
    loss = build({"name": "focal"})
    loss.terms["focal"].options["gamma"] = 1.0

    assert loss.effective_options()["loss.focal.gamma"] == 1.0


def test_sum_is_the_weighted_mean_of_its_terms() -> None:
    """First term 1, the others relative to it, divided by the sum: the scale stays that of a single loss."""
    target = blobs((8, 8))
    logits = scores(target)
    edgy = {"weight": {"focal": 0.5}, "focal": {"gamma": 1.0}, "dice": {"smooth": 1.0}}

    loss = build({"name": "edgy", "terms": ["dice", "focal"], "edgy": edgy})
    expected = (
        built("dice", {"smooth": 1.0})(logits, target) + 0.5 * built("focal", {"gamma": 1.0})(logits, target)
    ) / 1.5

    torch.testing.assert_close(loss(logits, target), expected)
    effective = loss.effective_options()
    assert effective["loss"] == "edgy"
    assert effective["loss.edgy.weight.focal"] == 0.5
    assert effective["loss.edgy.focal.gamma"] == 1.0
    assert effective["loss.edgy.dice.smooth"] == 1.0


def test_compound_losses_are_sums_of_their_parts() -> None:
    """dice_cross_entropy and dice_focal are nothing but Dice and a pixel loss."""
    target = blobs((8, 8))
    target[:, 0] = VOID
    logits = scores(target)
    dice = built("dice")(logits, target)

    both = built("dice_cross_entropy", {"weight": 0.3})(logits, target)
    torch.testing.assert_close(both, 0.3 * built("cross_entropy")(logits, target) + 0.7 * dice)
    both = built("dice_focal", {"weight": 0.3, "gamma": 1.5})(logits, target)
    torch.testing.assert_close(both, 0.3 * built("focal", {"gamma": 1.5})(logits, target) + 0.7 * dice)


def test_terms_of_a_sum_are_bare() -> None:
    """In a sum, a loss brings no companion of its own."""
    target = blobs((8, 8))
    logits = scores(target)
    bare = built("lovasz_softmax", {"cross_entropy_weight": 0.0})(logits, target)

    loss = build({"name": "two", "terms": ["lovasz_softmax", "dice"], "two": {"weight": {"dice": 0.0}}})

    torch.testing.assert_close(loss(logits, target), bare)
    with pytest.raises(SpecError, match=r"loss\.two\.lovasz_softmax\.cross_entropy_weight"):
        build(
            {
                "name": "two",
                "terms": ["lovasz_softmax", "dice"],
                "two": {"lovasz_softmax": {"cross_entropy_weight": 0.5}},
            }
        )


@pytest.mark.parametrize(
    ("config", "error", "said"),
    [
        pytest.param({"name": "focl"}, UnknownNameError, "loss.name: unknown loss 'focl'.*'focal'", id="loss"),
        pytest.param({"name": "focal", "focal": {"gama": 1}}, UnknownNameError, "loss.focal.*'gamma'", id="option"),
        pytest.param(
            {"name": "focal", "focal": {"gamma": 50.0}}, SpecError, "loss.focal.gamma: 50.0 .* 10.0", id="high"
        ),
        pytest.param({"name": "dice", "dice": {"classes": "al"}}, SpecError, "loss.dice.classes: 'al'", id="choice"),
        pytest.param({"name": "s", "terms": ["dice"]}, SpecError, "at least two", id="one-term"),
        pytest.param({"name": "s", "terms": ["dice", "dice"]}, SpecError, "different", id="twice"),
        pytest.param({"name": "s", "terms": ["dice", "fcal"]}, UnknownNameError, "'focal'", id="term"),
        pytest.param(
            {"name": "s", "terms": ["dice", "focal"], "s": {"weight": {"dice": 1.0}}},
            UnknownNameError,
            "weight of a sum",
            id="first-weight",
        ),
        pytest.param(
            {"name": "s", "terms": ["dice", "focal"], "s": {"weight": {"focal": -1.0}}},
            SpecError,
            "loss.s.weight.focal: -1.0",
            id="weight-low",
        ),
        pytest.param(
            {"name": "s", "terms": ["dice", "focal"], "s": {"tversky": {}}}, UnknownNameError, "part", id="part"
        ),
    ],
)
def test_wrong_configurations_are_refused(config: dict[str, Any], error: type[Exception], said: str) -> None:
    """The message names the dotted path, and the closest name or the interval."""
    with pytest.raises(error, match=said):
        build(config)


def test_shapes_that_do_not_fit_are_named() -> None:
    """Both shapes, and what would be right."""
    with pytest.raises(LossInputError, match=r"\[2, 3, 8, 8\].*\[2, 9, 8\].*\[2, 8, 8\]"):
        built("dice")(torch.zeros(2, 3, 8, 8), torch.zeros(2, 9, 8, dtype=torch.int64))


@pytest.mark.parametrize(
    ("logits", "target"),
    [
        pytest.param(torch.zeros(2, 3, 8), torch.zeros(2, 8, dtype=torch.int64), id="1d"),
        pytest.param(torch.zeros(2, 3, 8, 8), torch.zeros(2, 8, 8), id="float-target"),
        pytest.param(torch.zeros(2, 3, 8, 8, dtype=torch.int64), torch.zeros(2, 8, 8, dtype=torch.int64), id="int"),
        pytest.param(torch.zeros(2, 5, 8, 8), torch.zeros(2, 8, 8, dtype=torch.int64), id="classes"),
        pytest.param(torch.zeros(0, 3, 8, 8), torch.zeros(0, 8, 8, dtype=torch.int64), id="empty"),
    ],
)
def test_wrong_input_is_refused(logits: torch.Tensor, target: torch.Tensor) -> None:
    """A loss that broadcasts what does not fit trains nonsense."""
    with pytest.raises(LossInputError):
        built("dice")(logits, target)


def test_labels_out_of_range_are_named() -> None:
    """Labels of another data set, or 1-based ones."""
    target = torch.zeros(1, 4, 4, dtype=torch.int64)
    target[0, 0, 0] = 7

    with pytest.raises(LossInputError, match=r"labels 7.*3 classes.*255"):
        built("dice")(torch.zeros(1, 3, 4, 4), target)


def test_a_class_can_be_the_ignored_one() -> None:
    """Synapse protocols that ignore the background set ignore_index 0."""
    target = blobs((8, 8))
    logits = scores(target)
    loss = build_loss({"name": "cross_entropy"}, classes=3, ignore_index=0, class_frequencies=FREQUENCIES)

    expected = torch.nn.functional.cross_entropy(logits, target, ignore_index=0)

    torch.testing.assert_close(loss(logits, target), expected)


def test_one_frequency_per_class() -> None:
    """Weights of the wrong classes would not be noticed."""
    with pytest.raises(LossInputError, match="2 class frequencies for 3 classes"):
        build_loss({"name": "focal"}, classes=3, ignore_index=VOID, class_frequencies=(0.5, 0.5))


def test_topk_warms_up() -> None:
    """Small k trains on label noise at first: k falls from 100."""
    target = blobs((8, 8))
    logits = scores(target)
    loss = built("topk", {"k": 10.0, "warmup": 0.5})

    loss.on_epoch(1, 11)
    torch.testing.assert_close(loss(logits, target), built("cross_entropy")(logits, target))
    loss.on_epoch(6, 11)
    torch.testing.assert_close(loss(logits, target), built("topk", {"k": 10.0})(logits, target))


def test_until_when_a_loss_is_ramped_up() -> None:
    """Read from a whole configuration, since building a loss for it may take long."""
    entry = {name: {option.name: option.default for option in row.options} for name, row in LOSSES.items()}
    late = entry["active_boundary"] | {"start": 0.25}
    summed = {"weight": {"topk": 1.0}, "dice": {"smooth": 1.0}, "topk": entry["topk"] | {"warmup": 0.5}}

    assert all(ramp_end({"name": name, name: options}) == 0.0 for name, options in entry.items())
    assert ramp_end({"name": "active_boundary", "active_boundary": late}) == 0.25
    assert ramp_end({"name": "both", "terms": ["dice", "topk"], "both": summed}) == 0.5


def test_check_finds_bad_labels() -> None:
    """The trainer asks once, on any device."""
    with pytest.raises(LossInputError):
        built("dice").check(torch.zeros(1, 3, 4, 4), torch.full((1, 4, 4), 9))


def test_losses_survive_pickling(entry: LossSpec) -> None:
    """Spawned workers and deep copies of a trainer carry the loss along."""
    loss = built(entry)
    target = blobs((8, 8))
    logits = scores(target)

    again = pickle.loads(pickle.dumps(loss))

    assert again(logits, target) == loss(logits, target)


def test_what_a_loss_learns_reaches_the_optimizer() -> None:
    """The tolerance of the robust T-loss has a learning rate of its own, and no weight decay."""
    loss = built("robust_t", {"learning_rate": 0.05})
    (group,) = loss.parameter_groups()
    optimizer = torch.optim.AdamW([{"params": [torch.nn.Parameter(torch.zeros(1))]}, group], lr=1e-3)
    target = blobs((8, 8))
    before = loss.state_dict()["terms.robust_t.state.log_nu"].clone()

    loss(scores(target), target).backward()
    optimizer.step()

    assert optimizer.param_groups[1]["lr"] == 0.05
    assert optimizer.param_groups[1]["weight_decay"] == 0.0
    assert loss.state_dict()["terms.robust_t.state.log_nu"] != before


def test_frozen_parameters_are_no_optimizers_business() -> None:
    """InverseForm's regressor is trained before, and head and trunk after."""
    assert built("inverse_form").parameter_groups() == []
    assert len(built("boundary_aware").parameter_groups()[0]["params"]) == 4


def test_the_regressor_learns_only_when_it_is_asked() -> None:
    """Seconds for shapes that the weights of a data set replace would be lost in every trial that draws the loss."""

    def lessons() -> int:
        info = trained_weights.cache_info()
        return info.hits + info.misses

    before = lessons()
    first, second = built("inverse_form"), built("inverse_form")
    pickle.dumps(second)
    assert lessons() == before

    target = blobs((8, 8))
    saved = {name: value.clone() for name, value in first.state_dict().items()}
    assert lessons() == before + 1
    second.load_state_dict(saved)
    assert second(scores(target), target) == first(scores(target), target)
    assert lessons() == before + 1

    third = FrozenRegressor(classes=3)
    third.adopt({name: torch.zeros_like(value) for name, value in third.regressor.named_parameters()})
    assert third(torch.ones(1, 2, 32, 32)).abs().max() == 0
    assert lessons() == before + 1


def weights_over_epochs(name: str, options: dict[str, Any], epochs: int) -> list[tuple[float, ...]]:
    loss = built(name, options)
    found = []
    for epoch in range(1, epochs + 1):
        loss.on_epoch(epoch, epochs)
        found.append(loss.mixing_options.weights(loss.moment))
    return found


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        pytest.param("boundary", {"weight": 0.5}, [(0.5, 1), (0.5, 1), (0.5, 1)], id="constant"),
        pytest.param(
            "boundary",
            {"schedule": "increase", "weight": 0.01, "step": 0.04},
            [(0.01, 1), (0.03, 1), (0.05, 1)],
            id="increase",
        ),
        pytest.param(
            "boundary", {"schedule": "rebalance", "step": 1.2}, [(0, 1), (0.6, 0.4), (0.99, 0.01)], id="rebalance"
        ),
        pytest.param("hausdorff", {"schedule": "ramp", "weight": 0.8}, [(0, 1), (0.4, 0.6), (0.8, 0.2)], id="ramp"),
        pytest.param("region_wise", {"schedule": "alone"}, [(1, 0), (1, 0), (1, 0)], id="alone"),
        pytest.param("region_wise", {"schedule": "gradual"}, [(0, 1), (0.5, 0.5), (0.99, 0.01)], id="gradual"),
        pytest.param("active_boundary", {"start": 0.5, "weight": 2.0}, [(0, 1), (2, 1), (2, 1)], id="late-start"),
    ],
)
def test_schedules(name: str, options: dict[str, Any], expected: list[tuple[float, ...]]) -> None:
    """Weights of loss and base over three epochs, as the catalogue describes them."""
    for found, wanted in zip(weights_over_epochs(name, options, 3), expected, strict=True):
        assert found == pytest.approx(wanted)


def test_equalised_loss_is_never_more_than_its_base() -> None:
    """Karimi's rule of equal means: squared distances would drown every base."""
    target = blobs((12, 12))
    logits = scores(target)
    base = built("dice_cross_entropy")(logits, target)

    total = built("hausdorff", {"weight": 100.0})(logits, target)

    torch.testing.assert_close(total, 2 * base)


def test_maps_that_are_handed_in_are_used() -> None:
    """The data layer makes them once; a loss that made its own would be slow and nobody would notice."""
    target = blobs((8, 8))
    logits = scores(target)
    loss = built("boundary", {"weight": 1.0})
    none = {"signed_distance": torch.zeros(2, 3, 8, 8)}

    torch.testing.assert_close(loss(logits, target, none), built("dice_cross_entropy")(logits, target))
    with pytest.raises(LossInputError, match=r"signed_distance.*\[2, 3, 9, 8\].*\[2, 3, 8, 8\]"):
        loss(logits, target, {"signed_distance": torch.zeros(2, 3, 9, 8)})


def test_features_of_the_network_are_used() -> None:
    """The conditional boundary loss works on features where the model hands them over, at their own size."""
    target = blobs((8, 8))
    features = torch.randn(2, 4, 4, 4, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(3, 4, requires_grad=True)
    inputs = {"features": features, "classifier_weight": weight, "classifier_bias": torch.zeros(3)}

    built("conditional_boundary")(scores(target), target, inputs).backward()

    assert features.grad is not None
    assert features.grad.abs().max() > 0
    # the authors detach the classifier
    assert weight.grad is None

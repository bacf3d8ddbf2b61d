"""The loss library as anybody's training loop uses it: `from tuner import losses`."""

import copy
import inspect
import pickle
import subprocess
import sys
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from tests.losses.images import CLASSES, FREQUENCIES, SHAPES, VOID, blobs, built, scores
from tuner import losses
from tuner.errors import LossInputError, SpecError, UnknownNameError
from tuner.losses.spec import LossSpec

quiet = pytest.mark.filterwarnings("ignore")


def created(entry: LossSpec | str, **keywords: Any) -> losses.Loss:
    """A loss with all that any loss may need to be created."""
    name = entry if isinstance(entry, str) else entry.name
    return losses.create(name, num_classes=CLASSES, class_frequencies=FREQUENCIES, **keywords)


def bare(entry: LossSpec | str, logits: Tensor, target: Tensor, **keywords: Any) -> Tensor:
    """The function of the same name."""
    name = entry if isinstance(entry, str) else entry.name
    if name == "boundary_aware":
        keywords["boundary_head"] = torch.zeros(len(logits), 11, *logits.shape[2:], dtype=logits.dtype)
    value: Tensor = getattr(losses.functional, name)(logits, target, class_frequencies=FREQUENCIES, **keywords)
    return value


def scene(shape: tuple[int, ...] = SHAPES["2d"]) -> tuple[Tensor, Tensor]:
    target = blobs(shape)
    return scores(target), target


def overlapping(shape: tuple[int, ...] = SHAPES["2d"]) -> tuple[Tensor, Tensor]:
    """Logits and a target of classes that overlap: class 1 lies in class 0, as BraTS's regions do; class 2 is apart."""
    labels = blobs(shape)
    target = torch.stack([labels > 0, labels == 2, labels == 0], 1).long()
    return scores(labels), target


def test_the_public_names_are_these() -> None:
    """A name that goes breaks other people's trainings: raise `api_version` with this list."""
    assert losses.api_version == "1.0"
    assert set(losses.__all__) == {
        "Choices",
        "Range",
        "DeepSupervision",
        "Loss",
        "LossInputError",
        "api_version",
        "count_class_frequencies",
        "create",
        "functional",
        "info",
        "names",
    }
    assert all(getattr(losses, name) is not None for name in losses.__all__)
    with pytest.raises(AttributeError, match="no attribute 'creat'"):
        _ = losses.creat  # type: ignore[attr-defined]


def test_importing_it_costs_torch_and_numpy_only() -> None:
    """A training loop on a node that has nothing else must be able to use every loss that needs no transform."""
    code = """if True:
        import sys
        banned = "optuna monai sqlalchemy pydantic scipy edt skimage fastapi yaml".split()
        class Refusing:
            def find_spec(self, name, path=None, target=None):
                if name.split(".")[0] in banned:
                    raise ModuleNotFoundError(name)
        sys.meta_path.insert(0, Refusing())
        import tuner
        assert "torch" not in sys.modules
        from tuner import losses
        losses.names(), losses.info("focal")
        assert "torch" not in sys.modules
        import torch
        z, y = torch.randn(2, 3, 8, 8), torch.randint(0, 3, (2, 8, 8))
        for name in losses.names():
            if name not in ("skeleton_recall", "inverse_form"):
                losses.create(name, num_classes=3, class_frequencies=[0.5, 0.3, 0.2])(z, y)
        loaded = {name.split(".")[0] for name in sys.modules}
        assert not loaded & set(banned), loaded & set(banned)
    """
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True)


def test_a_module_gives_what_the_trainer_gets(entry: LossSpec, shape: tuple[int, ...]) -> None:
    """What won a search must be the same loss in another training loop: value and gradient."""
    logits, target = scene(shape)
    target[:, :2] = VOID
    ours, theirs = logits.clone().requires_grad_(), logits.clone().requires_grad_()

    value = created(entry, ignore_index=VOID)(ours, target)
    expected = built(entry)(theirs, target)
    value.backward()
    expected.backward()

    assert value.dtype == torch.float64
    torch.testing.assert_close(value, expected)
    torch.testing.assert_close(ours.grad, theirs.grad)


def test_forms_of_a_target_are_alike(entry: LossSpec) -> None:
    """[B, 1, *S], small integers, one-hot, and a mask instead of marked pixels say the same."""
    logits, target = scene()
    counted = torch.rand(target.shape, generator=torch.Generator().manual_seed(1)) > 0.2
    marked = target.masked_fill(~counted, VOID)
    hot = F.one_hot(target, CLASSES).movedim(-1, 1)

    value = bare(entry, logits, target, ignore_index=None)
    masked = bare(entry, logits, marked, ignore_index=VOID)

    for form in (target.unsqueeze(1), target.to(torch.uint8), hot, hot.bool()):
        torch.testing.assert_close(bare(entry, logits, form), value)
    torch.testing.assert_close(bare(entry, logits, target, mask=counted), masked)
    torch.testing.assert_close(bare(entry, logits, hot, mask=counted.unsqueeze(1)), masked)
    if entry.soft_labels:
        torch.testing.assert_close(bare(entry, logits, hot.double()), value)
        torch.testing.assert_close(bare(entry, logits, marked, mask=counted.double(), ignore_index=VOID), masked)


def test_one_channel_is_the_second_of_two_classes(entry: LossSpec) -> None:
    """Binary segmentation: [B, 1, *S] logits, bool targets with or without a channel."""
    if entry.name == "boundary_aware":
        pytest.skip("its head scores bins, whatever the channels are")
    target = blobs(SHAPES["2d"]) > 0
    score = scores(target, classes=1)
    function = getattr(losses.functional, entry.name)

    value = function(score, target, class_frequencies=(0.7, 0.3))
    pair = torch.cat([torch.zeros_like(score), score], 1)

    torch.testing.assert_close(function(pair, target.long(), class_frequencies=(0.7, 0.3)), value)
    torch.testing.assert_close(function(score, target.unsqueeze(1), class_frequencies=(0.7, 0.3)), value)


def test_reduction_none_gives_pixels_or_images(entry: LossSpec) -> None:
    """Pixel losses give a map, all others one value an image, each image alone."""
    logits, target = scene()

    each = created(entry, reduction="none")(logits, target)
    alone = [created(entry)(logits[n : n + 1], target[n : n + 1]) for n in range(len(logits))]

    if entry.family == "pixel":
        assert each.shape == target.shape
    else:
        torch.testing.assert_close(each, torch.stack(alone))


@pytest.mark.parametrize("name", ["cross_entropy", "focal", "poly1", "logit_adjusted_ce", "distance_map_ce", "nacl"])
def test_the_mean_of_the_pixels_is_the_loss(name: str) -> None:
    """`reduction="none"` is for one's own weighting: nothing may be scaled in it."""
    logits, target = scene()

    torch.testing.assert_close(
        created(name, reduction="none")(logits, target).mean(), created(name)(logits, target), msg=name
    )


def test_a_loss_survives_copies_and_storage(entry: LossSpec) -> None:
    """Trainers pickle losses to spawn processes, copy them, and store their state."""
    logits, target = scene()
    loss = created(entry)
    value = loss(logits, target)

    for other in (pickle.loads(pickle.dumps(loss)), copy.deepcopy(loss)):
        torch.testing.assert_close(other(logits, target), value)
    fresh = created(entry)
    fresh.load_state_dict(loss.state_dict())
    torch.testing.assert_close(fresh(logits, target), value)
    assert pickle.loads(pickle.dumps(getattr(losses.functional, entry.name))) is getattr(losses.functional, entry.name)


def test_layout_and_precision_do_not_matter(entry: LossSpec) -> None:
    """Channels-last logits, and half logits under autocast, in a loop that never heard of either."""
    logits, target = scene()
    loss = created(entry)
    flat, last = (
        logits.float().to(memory_format=kind).requires_grad_()
        for kind in (torch.contiguous_format, torch.channels_last)
    )

    loss(flat, target).backward()
    loss(last, target).backward()
    half = logits.bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cast = loss(half, target)

    torch.testing.assert_close(last.grad, flat.grad)
    assert cast.dtype == torch.float32
    torch.testing.assert_close(cast, loss(half.float(), target))


MULTILABEL = losses.names(multilabel=True)


@pytest.mark.parametrize("name", MULTILABEL)
def test_overlapping_classes_have_a_loss(name: str, shape: tuple[int, ...]) -> None:
    """Right is better than random is better than wrong; every class has a gradient; marked pixels have none."""
    logits, target = overlapping(shape)
    counted = torch.ones_like(target, dtype=torch.bool)
    counted[:, :, :1] = False
    marked = target.masked_fill(~counted, VOID)
    loss = created(name, activation="sigmoid", ignore_index=VOID)
    sure = 12 * (2 * target - 1).double()
    leaf = logits.clone().requires_grad_()

    value = loss(leaf, marked)
    value.backward()

    assert loss(sure, marked) < value < loss(-sure, marked)
    assert leaf.grad is not None
    assert leaf.grad.isfinite().all()
    assert (leaf.grad[~counted] == 0).all()
    assert (leaf.grad.abs().amax((0, *range(2, logits.ndim))) > 0).all()
    torch.testing.assert_close(created(name, activation="sigmoid")(logits, target, mask=counted), value.detach())
    torch.testing.assert_close(
        created(name, activation="sigmoid", ignore_index=VOID)(logits, marked.double()), value.detach()
    )


@pytest.mark.parametrize("name", MULTILABEL)
def test_the_order_of_overlapping_classes_does_not_matter(name: str) -> None:
    """None of them is background."""
    logits, target = overlapping()
    order = [2, 0, 1]
    loss = losses.create(
        name, activation="sigmoid", class_frequencies=None if name != "exponential_logarithmic" else (1 / 3,) * 3
    )

    torch.testing.assert_close(loss(logits[:, order], target[:, order]), loss(logits, target))


@pytest.mark.parametrize("name", MULTILABEL)
@pytest.mark.slow
def test_the_gradient_of_overlapping_classes_is_right(name: str) -> None:
    """By finite differences, in float64, where nothing is held fixed in the gradient."""
    logits, target = overlapping((6, 7))
    loss = created(name, activation="sigmoid")
    leaf = logits[:1].clone().requires_grad_()

    assert torch.autograd.gradcheck(lambda z: loss(z, target[:1]), (leaf,), eps=1e-6, atol=1e-5)


SOFT = losses.names(soft_labels=True)
PROPER = (
    "cross_entropy", "dice", "log_cosh_dice", "jaccard", "tversky", "focal_tversky", "sensitivity_specificity",
    "generalized_dice", "mcc", "dice_plus_plus", "dice_cross_entropy",
)  # fmt: skip


@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
@pytest.mark.parametrize("squared", [False, True])
@pytest.mark.parametrize("name", PROPER)
def test_a_soft_label_is_best_answered_with_itself(name: str, squared: bool, activation: str) -> None:
    """Sum p t / sum (p + t) is best answered with 0 or 1; the metric forms (Wang et al. 2023) with t."""
    if squared and "squared" not in {option.name for option in losses.info(name).options}:
        pytest.skip("it has one form")
    target = torch.softmax(scores(blobs((5, 6)), seed=3), 1)
    if activation == "sigmoid":
        target = torch.sigmoid(scores(blobs((5, 6)), seed=3))
    best = torch.log(target) if activation == "softmax" else torch.logit(target)
    options = {"squared": True} if squared else {}
    loss = created(name, activation=activation, **options)

    value = loss(best, target)

    for seed in range(5):
        for step in (0.03, 0.5):
            away = best + step * scores(blobs((5, 6)), seed=seed)
            assert value < loss(away, target)


@pytest.mark.parametrize("name", SOFT)
def test_a_weight_counts_as_often(name: str) -> None:
    """A pixel of weight 2 is a pixel that is there twice."""
    logits, target = scene()
    weight = torch.ones(target.shape, dtype=torch.float64)
    weight[:, :, :3] = 2
    twice = torch.cat([logits, logits[:, :, :, :3]], 3), torch.cat([target, target[:, :, :3]], 2)

    torch.testing.assert_close(bare(name, logits, target, mask=weight), bare(name, *twice))


WEIGHED = [name for name in losses.names() if "classes" in {option.name for option in losses.info(name).options}]


@pytest.mark.parametrize("name", WEIGHED)
def test_class_weights_weigh_the_mean_over_classes(name: str) -> None:
    """Equal weights change nothing; a class of weight 0 does not move its own sums."""
    logits, target = scene()
    value = bare(name, logits, target)

    torch.testing.assert_close(bare(name, logits, target, class_weights=[2.0, 2.0, 2.0]), value)
    assert not torch.equal(bare(name, logits, target, class_weights=[1.0, 5.0, 1.0]), value)


def test_class_weights_by_hand() -> None:
    """Dice of every class, then the weighted mean."""
    logits, target = overlapping()
    weights = [3.0, 1.0, 0.0]
    dice = [losses.functional.dice(logits[:, [c]], target[:, [c]], activation="sigmoid") for c in range(3)]

    value = losses.create("dice", activation="sigmoid", class_weights=weights)(logits, target)

    torch.testing.assert_close(value, (3 * dice[0] + dice[1]) / 4)
    with pytest.raises(LossInputError, match="no mean over classes"):
        losses.create("focal", class_weights=weights)(logits, target.argmax(1))


def test_hand_computed_values_of_overlapping_classes() -> None:
    """Two pixels, two classes, p = 1/2 and 3/4, by hand."""
    ln3 = float(torch.log(torch.tensor(3.0, dtype=torch.float64)))
    logits = torch.tensor([[[[0.0, ln3]], [[ln3, 0.0]]]], dtype=torch.float64)
    target = torch.tensor([[[[1, 1]], [[0, 1]]]])
    ln = torch.log(torch.tensor([2.0, 4 / 3, 4.0, 2.0], dtype=torch.float64))

    got = {
        name: losses.create(name, activation="sigmoid", **options)(logits, target)
        for name, options in {
            "cross_entropy": {},
            "focal": {"gamma": 1.0},
            "dice": {"smooth": 0.0},
            "jaccard": {"smooth": 0.0},
            "tversky": {"smooth": 0.0, "alpha": 0.25},
        }.items()
    }

    # class 0: TP 5/4, P 5/4, T 2; class 1: TP 1/2, P 5/4, T 1
    wanted = {
        "cross_entropy": ln.mean(),
        "focal": (ln * torch.tensor([0.5, 0.25, 0.75, 0.5])).mean(),
        "dice": 1 - (2.5 / 3.25 + 1 / 2.25) / 2,
        "jaccard": 1 - (1.25 / 2 + 0.5 / 1.75) / 2,
        "tversky": 1 - (1.25 / (1.25 + 0.75 * 0.75) + 0.5 / (0.5 + 0.25 * 0.75 + 0.75 * 0.5)) / 2,
    }
    for name, value in wanted.items():
        torch.testing.assert_close(got[name], torch.as_tensor(value, dtype=torch.float64), msg=name)


def test_jaccard_of_soft_labels_by_hand() -> None:
    """Wang et al. 2023: |p| + |t| - |p - t| over |p| + |t| + |p - t|, p = 0.5 and 0.75, t = 0.25 and 1."""
    logits = torch.logit(torch.tensor([[[[0.5, 0.75]]]], dtype=torch.float64))
    target = torch.tensor([[[[0.25, 1.0]]]], dtype=torch.float64)

    value = losses.functional.jaccard(logits, target, activation="sigmoid", smooth=0.0)

    assert value.item() == pytest.approx(1 - (1.25 + 1.25 - 0.5) / (1.25 + 1.25 + 0.5))


class TestDeepSupervision:
    def test_weights_halve_and_add_up_to_one(self) -> None:
        """1, 1/2, 1/4 over 7/4, the target brought to every resolution by its nearest pixels."""
        logits, target = scene((16, 16))
        outputs = [logits, logits[..., ::2, ::2], logits[..., ::4, ::4]]
        loss = created("dice_cross_entropy")
        targets = [target, target[:, 1::2, 1::2], target[:, 2::4, 2::4]]

        value = losses.DeepSupervision(loss)(outputs, target)
        expected = sum(w * loss(z, y) for w, z, y in zip((4 / 7, 2 / 7, 1 / 7), outputs, targets, strict=True))

        torch.testing.assert_close(value, expected)
        torch.testing.assert_close(losses.DeepSupervision(loss)(outputs, targets), value)

    def test_nnunets_last_weight_is_zero(self) -> None:
        """An output of weight 0 is not even looked at."""
        logits, target = scene((16, 16))
        loss = created("dice")
        half = logits[..., ::2, ::2]

        value = losses.DeepSupervision(loss, weights=[1, 0.5, 0])([logits, half, torch.empty(0)], target)

        torch.testing.assert_close(value, (2 * loss(logits, target) + loss(half, target[:, 1::2, 1::2])) / 3)

    def test_soft_and_overlapping_targets_are_resized(self) -> None:
        """Averages of probabilities, and the nearest of zeros and ones."""
        logits, target = overlapping((16, 16))
        small = [logits, logits[..., ::2, ::2]]
        loss = losses.DeepSupervision(created("dice", activation="sigmoid"))

        hard = loss(small, target, mask=torch.ones(2, 16, 16, dtype=torch.bool))
        soft = loss(small, target * 0.5)

        assert hard.isfinite()
        assert soft.isfinite()

    def test_lengths_must_fit(self) -> None:
        logits, target = scene()
        with pytest.raises(LossInputError, match="1 outputs with 2 weights"):
            losses.DeepSupervision(created("dice"), weights=[1, 1])([logits], target)


class TestErrors:
    logits = torch.zeros(1, 3, 4, 4)
    target = torch.zeros(1, 4, 4, dtype=torch.int64)

    @pytest.mark.parametrize(
        ("call", "message"),
        [
            (lambda z, y: losses.create("focall"), "Did you mean 'focal'"),
            (lambda z, y: losses.create("focal", gama=2), "Did you mean 'gamma'"),
            (lambda z, y: losses.create("focal", gamma=99.0), "99.0 is above the limit 10.0"),
            (lambda z, y: losses.functional.focal(z, y, gamma=99.0), "focal.gamma: 99.0 is above the limit 10.0"),
            (lambda z, y: losses.functional.dice(z, y, base="dice"), "base"),
            (lambda z, y: losses.create("focal", class_weight_exponent=1.0), "count_class_frequencies"),
            (lambda z, y: losses.create("nacl", activation="sigmoid"), "multilabel=True"),
            (lambda z, y: losses.create("boundary_aware"), "num_classes="),
            (lambda z, y: losses.create("dice", activation="tanh"), "none of softmax, sigmoid"),
            (lambda z, y: losses.create("dice")(z, y + 3), "labels are 0 to 2; pass ignore_index=3"),
            (lambda z, y: losses.create("dice")(z, y.float()), r"target.long\(\)"),
            (lambda z, y: losses.create("dice")(z, y[:, :2]), "do not fit"),
            (lambda z, y: losses.create("dice", activation="sigmoid")(z, y), r"must be \[1, 3, 4, 4\]"),
            (lambda z, y: losses.create("dice", activation="sigmoid")(z, z - 1), "must lie in"),
            (lambda z, y: losses.create("dice")(z, z + 0.5), "add up to 1"),
            (lambda z, y: losses.create("topk", activation="sigmoid")(z, z + 0.5), "takes no soft labels"),
            (lambda z, y: losses.create("topk")(z, y, mask=torch.rand(1, 4, 4)), "no weights"),
            (lambda z, y: losses.create("dice")(z, y, mask=torch.rand(4, 4)), "mask is"),
            (lambda z, y: losses.create("dice")(z, y, features=z), "has no input 'features'"),
            (lambda z, y: losses.create("dice", class_frequencies=[1, 1])(z, y), None),
            (lambda z, y: losses.create("focal", class_frequencies=[1, 1])(z, y), "2 class_frequencies"),
            (lambda z, y: losses.create("topk").set_progress(2.0), "must lie in"),
            (lambda z, y: losses.names(family="pixels"), "Did you mean 'pixel'"),
            (lambda z, y: losses.count_class_frequencies(y + 7, num_classes=3), "labels from 7 to 7"),
        ],
    )
    def test_an_error_says_what_would_be_right(self, call: Any, message: str | None) -> None:
        """Nobody should have to read the source of a loss to call it."""
        if message is None:
            call(self.logits, self.target)
            return
        with pytest.raises((LossInputError, SpecError, UnknownNameError), match=message):
            call(self.logits, self.target)


def test_frequencies_are_counted() -> None:
    """What `class_frequencies=` takes, from a tensor or a loader's batches."""
    target = torch.tensor([[0, 0, 1], [255, 2, 0]])

    found = losses.count_class_frequencies([target[:1], target[1:]], num_classes=3, ignore_index=255)

    assert found.tolist() == [0.6, 0.2, 0.2]
    weighed = losses.create("cross_entropy", class_weight_exponent=1.0, class_frequencies=found)
    weights = (1 / found) / (1 / found).mean()
    logits = scores(target[:1].unsqueeze(0))
    expected = F.cross_entropy(logits, target[:1].unsqueeze(0), weight=weights)
    torch.testing.assert_close(weighed(logits, target[:1].unsqueeze(0)), expected)


def test_a_schedule_follows_the_share_that_is_told() -> None:
    """Topk's warm-up: at 0 every pixel counts, at the end k per cent."""
    logits, target = scene()
    loss = losses.create("topk", warmup=0.5)
    end = loss(logits, target)

    loss.set_progress(0.0)
    torch.testing.assert_close(loss(logits, target), F.cross_entropy(logits, target))
    loss.set_progress(1.0)
    torch.testing.assert_close(loss(logits, target), end)


def test_what_a_loss_learns_is_its_parameters() -> None:
    """robust_t: an optimizer that gets them lowers the loss by them alone."""
    logits, target = scene()
    loss = losses.create("robust_t")
    before = loss(logits, target)
    optimizer = torch.optim.SGD(loss.parameters(), lr=0.1)

    before.backward()
    optimizer.step()

    assert loss(logits, target) < before
    assert len(list(loss.parameters())) == 1


def test_the_catalogue_says_what_there_is() -> None:
    """Names by family and meaning, and an entry with the fields of `losses --json`."""
    assert set(losses.names(family="region")) < set(losses.names())
    assert {"dice", "focal", "lovasz_softmax"} <= set(losses.names(multilabel=True))
    assert "nacl" in losses.names(multilabel=False)
    entry = losses.info("focal")
    assert (entry.name, entry.family, entry.survey) == ("focal", "pixel", True)
    assert [option.name for option in entry.options] == ["gamma", "class_weight_exponent"]
    assert (entry.options[0].default, entry.options[0].low, entry.options[0].high) == (2.0, 0.0, 10.0)


def test_functions_show_their_options(entry: LossSpec) -> None:
    """`help()` and editors read the signature."""
    function = getattr(losses.functional, entry.name)
    parameters = inspect.signature(function).parameters

    assert list(parameters)[:2] == ["logits", "target"]
    assert {option.name for option in entry.own_options} <= set(parameters)
    assert function.__doc__


@quiet
@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
@pytest.mark.parametrize("name", ["dice_cross_entropy", pytest.param("topk", marks=pytest.mark.slow)])
def test_a_module_compiles_as_one_graph(name: str, activation: str) -> None:
    """torch.compile over a training step must not fall apart at the loss."""
    logits, target = scene() if activation == "softmax" else overlapping()
    loss = losses.create(name, activation=activation)
    torch._dynamo.reset()
    expected = loss(logits, target)

    got = torch.compile(loss, backend="aot_eager", fullgraph=True)(logits, target)

    torch.testing.assert_close(got, expected)


@quiet
@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in MULTILABEL if "hausdorff" not in name])
def test_overlapping_classes_compile(name: str) -> None:
    """Value and gradient are those of eager mode; maps that the host makes may break the graph."""
    logits, target = overlapping()
    loss = created(name, activation="sigmoid")
    torch._dynamo.reset()
    eager, compiled = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    loss(eager, target).backward()

    torch.compile(loss, backend="aot_eager")(compiled, target).backward()

    torch.testing.assert_close(compiled.grad, eager.grad, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", ["dice", "topk", "lovasz_softmax", "boundary_dou", "focal"])
def test_a_device_is_not_waited_for_where_classes_overlap(name: str) -> None:
    """The meta device has no values: any look at one raises."""
    logits, target = (part.to("meta") for part in overlapping())
    leaf = logits.float().requires_grad_()

    losses.create(name, activation="sigmoid")(leaf, target).backward()

    assert leaf.grad is not None


WORKER = """
import os, sys, torch, torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel
from tuner import losses

rank = int(sys.argv[1])
torch.set_num_threads(1)
dist.init_process_group("gloo", init_method=sys.argv[2], rank=rank, world_size=2)
torch.manual_seed(0)
network = torch.nn.Conv2d(1, 3, 3, padding=1)
model = DistributedDataParallel(network)
loss = DistributedDataParallel(losses.create("robust_t"))
optimizer = torch.optim.SGD([*model.parameters(), *loss.parameters()], lr=0.1)
images = torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(rank))
target = (images[:, 0] > 0).long()
for _ in range(3):
    optimizer.zero_grad()
    loss(model(images), target).backward()
    optimizer.step()
weights = torch.cat([p.detach().flatten() for p in [*model.parameters(), *loss.parameters()]])
both = [torch.empty_like(weights) for _ in range(2)]
dist.all_gather(both, weights)
assert torch.equal(both[0], both[1]), both
assert weights[-1] != 1.0
dist.destroy_process_group()
"""


def test_two_processes_train_together(tmp_path: Any) -> None:
    """DistributedDataParallel over gloo: what the loss learns is kept the same, as the network is."""
    address = f"file://{tmp_path / 'rendezvous'}"
    both = [subprocess.Popen([sys.executable, "-W", "ignore", "-c", WORKER, str(rank), address]) for rank in range(2)]

    assert [process.wait(timeout=120) for process in both] == [0, 0]


def test_a_plain_training_loop() -> None:
    """Three losses, overlapping classes, soft labels and deep supervision, each in ten lines of somebody's code."""
    torch.manual_seed(0)
    images = torch.randn(4, 1, 16, 16)
    regions = torch.stack([images[:, 0] > 0, images[:, 0] > 0.5], 1)
    soft = F.avg_pool2d(regions.float(), 3, 1, 1)
    for target in (regions, soft):
        for name in ("dice", "focal", "dice_cross_entropy"):
            network = torch.nn.Conv2d(1, 2, 3, padding=1)
            loss = losses.DeepSupervision(losses.create(name, activation="sigmoid"))
            optimizer = torch.optim.Adam([*network.parameters(), *loss.parameters()], lr=0.05)
            values = []
            for _ in range(30):
                logits = network(images)
                value = loss([logits, F.avg_pool2d(logits, 2)], target)
                optimizer.zero_grad()
                value.backward()
                optimizer.step()
                values.append(value.item())
            assert values[-1] < values[0]

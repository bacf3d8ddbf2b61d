"""Surface distances: by hand, against MONAI, and with a brute-force search."""

import numpy as np
import pytest
from monai.metrics import compute_average_surface_distance, compute_hausdorff_distance, compute_surface_dice
from scipy.ndimage import binary_erosion
from scipy.spatial.distance import cdist

from tests.metrics.shapes import label_pair, one_hot
from tuner.metrics.scoring import score_case
from tuner.metrics.surface import KnownDistances, SurfaceDistances, diagonal, edges, surface_distances

pytestmark = pytest.mark.filterwarnings("ignore:monai.metrics.utils get_mask_edges:FutureWarning")

SURFACE = ("hd95", "assd", "surface_dice")


def measure(prediction: np.ndarray, label: np.ndarray, spacing: tuple[float, ...] | None = None) -> SurfaceDistances:
    """Distances of the one class of two masks."""
    (distances,) = surface_distances(prediction, label, classes=2, spacing=spacing)
    assert distances is not None
    return distances


@pytest.mark.parametrize(
    ("shape", "spacing"),
    [
        pytest.param((48, 37), None, id="2d"),
        pytest.param((48, 37), (2.0, 0.7), id="2d-spacing"),
        pytest.param((11, 30, 26), None, id="3d"),
        pytest.param((11, 30, 26), (5.0, 1.0, 1.5), id="3d-spacing"),
        pytest.param((1, 40, 33), None, id="volume-of-one-slice"),
    ],
)
def test_equal_to_monai(shape: tuple[int, ...], spacing: tuple[float, ...] | None) -> None:
    """HD95 is MONAI's definition, to float32's digits, masks at the border included."""
    prediction, label = label_pair(shape, 5, seed=2)

    ours = score_case(prediction, label, 5, 255, SURFACE, spacing)

    pair = one_hot(prediction, 5), one_hot(label, 5)
    hd95 = compute_hausdorff_distance(*pair, percentile=95, spacing=spacing)
    assd = compute_average_surface_distance(*pair, symmetric=True, spacing=spacing)
    near = compute_surface_dice(*pair, class_thresholds=[1.0] * 4, spacing=spacing)
    for name, theirs in zip(SURFACE, (hd95, assd, near), strict=True):
        np.testing.assert_allclose(ours[name], theirs[0], rtol=1e-5, atol=1e-6, err_msg=name)


def test_by_hand() -> None:
    """Two pixels, three columns apart: every distance is 3 pixels, or 6 mm."""
    prediction, label = np.zeros((5, 8), np.uint8), np.zeros((5, 8), np.uint8)
    prediction[2, 1], label[2, 4] = 1, 1

    in_pixels = measure(prediction, label)
    in_mm = measure(prediction, label, (1.0, 2.0))

    assert (in_pixels.hd95(), in_pixels.assd(), in_pixels.surface_dice()) == (3, 3, 0)
    assert (in_mm.hd95(), in_mm.surface_dice(6.0)) == (6, 1)


def test_hd95_is_the_larger_direction() -> None:
    """A far false positive shows in the direction from the prediction only; pooling would hide it."""
    label = np.zeros((60, 60), np.uint8)
    label[5:25, 5:25] = 1
    prediction = label.copy()
    prediction[50:56, 50:56] = 1

    distances = measure(prediction, label)

    assert np.percentile(distances.to_prediction, 95) == 0
    assert distances.hd95() == np.percentile(distances.to_truth, 95) > 30


def test_equal_to_brute_force() -> None:
    """Skipping points that are on both surfaces, and the tree, change nothing."""
    prediction, label = label_pair((30, 25), 4, seed=5)
    measured = surface_distances(prediction, label, classes=4, spacing=(1.5, 0.5))

    for organ, distances in enumerate(measured, 1):
        assert distances is not None
        masks = [labels == organ for labels in (prediction, label)]
        table = cdist(*[np.argwhere(mask & ~binary_erosion(mask)) * (1.5, 0.5) for mask in masks])
        np.testing.assert_allclose(distances.to_truth, table.min(1))
        np.testing.assert_allclose(distances.to_prediction, table.min(0))


@pytest.mark.parametrize("shape", [pytest.param((20, 17), id="2d"), pytest.param((6, 12, 1), id="3d-thin")])
def test_edges_are_what_erosion_removes(shape: tuple[int, ...]) -> None:
    """Another class next door is an edge, and so is the border of the image."""
    labels = np.random.default_rng(3).choice([0, 0, 1, 2, 2, 2, 2, 2], shape)

    for organ in (1, 2):
        mask = labels == organ
        assert np.array_equal(edges(labels) & mask, mask & ~binary_erosion(mask))


def test_a_class_that_one_lacks_has_no_distances() -> None:
    """What it scores instead is the caller's rule."""
    labels = np.zeros((4, 4), np.uint8)
    labels[1, 1], other = 1, labels + 0

    assert surface_distances(labels, other * 0, classes=3) == [None, None]


@pytest.mark.parametrize("room", [1 << 20, 4000, 0], ids=["all", "some", "none"])
def test_what_is_known_already_changes_no_score(room: int) -> None:
    """One truth, predictions that come and go: what was measured for one of them is right for the next."""
    label = label_pair((8, 20, 20), 4, seed=1)[1]
    label[0, 0] = 255
    predictions = [label_pair((8, 20, 20), 4, seed=seed)[0] for seed in (1, 5, 5, 9, 1)]
    known = KnownDistances(room)

    for prediction in predictions:
        alone = score_case(prediction, label, 4, 255, SURFACE, (5.0, 1.0, 1.5))
        assert score_case(prediction, label, 4, 255, SURFACE, (5.0, 1.0, 1.5), known=known) == alone


def test_diagonal() -> None:
    """The distance of an organ that was not found: finite, and in the unit of the spacing."""
    assert diagonal((3, 4)) == 5
    assert diagonal((3, 4), (2.0, 2.0)) == 10

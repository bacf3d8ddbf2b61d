"""InverseForm: how far the predicted border has to be moved, turned and stretched to lie on the true one."""

from collections.abc import Callable, Mapping
from functools import cache
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tuner.losses.batch import LossInputs, segmentation_loss

MIN_RANGE = 1e-12
SIDE = 32
STEPS = 300
SHAPES_A_STEP = 48
DATA_STEPS = 300
CHECK_EVERY = 100
KIND = torch.float32
"""In which the regressor is kept and trained, whatever torch's default type is."""
MIN_EDGE = 1e-6

ProgressCallback = Callable[[int, int, float], None]
"""Called with the step, the number of steps, and the error."""


class Regressor(nn.Module):
    """From two border maps [B, 2, 32, 32] to what the affine transform between them adds to the identity, [B, 2, 3]."""

    def __init__(self, generator: torch.Generator) -> None:
        super().__init__()
        widths = (2, 16, 32, 32)
        self.kernels = nn.ParameterList(
            torch.randn(after, before, 3, 3, generator=generator, dtype=KIND) * (2 / (9 * before)) ** 0.5
            for before, after in pairwise(widths)
        )
        self.hidden = nn.Parameter(torch.randn(64, 512, generator=generator, dtype=KIND) * (2 / 512) ** 0.5)
        self.last = nn.Parameter(torch.zeros(6, 64, dtype=KIND))

    def forward(self, maps: Tensor) -> Tensor:
        """Return the six coefficients as [B, 2, 3]; all zero for the identity."""
        for kernel in self.kernels:
            maps = torch.relu(F.conv2d(maps, kernel.to(maps.dtype), stride=2, padding=1))
        hidden = torch.relu(F.linear(maps.flatten(1), self.hidden.to(maps.dtype)))
        return F.linear(hidden, self.last.to(maps.dtype)).view(-1, 2, 3)


class FrozenRegressor(nn.Module):
    """A regressor that does not learn in a training: it knows drawn shapes, or the data set whose weights it adopts.

    What it knows of drawn shapes takes seconds to learn, so it learns it when it is first asked or saved.
    """

    def __init__(self, *, classes: int) -> None:
        super().__init__()
        self.regressor = Regressor(torch.Generator().manual_seed(0)).requires_grad_(False)
        self._knows = False
        self.register_state_dict_pre_hook(_settled)  # type: ignore[no-untyped-call]
        self.register_load_state_dict_post_hook(_informed)  # type: ignore[no-untyped-call]

    def adopt(self, weights: Mapping[str, Tensor]) -> None:
        """Take the weights that `train_on_borders` found."""
        self.regressor.load_state_dict(weights)
        self._knows = True

    def settle(self) -> None:
        """Learn drawn shapes if nothing is known yet."""
        if self._knows:
            return
        with torch.no_grad():
            for parameter, weight in zip(self.regressor.parameters(), trained_weights(), strict=True):
                parameter.copy_(weight)
        self._knows = True

    def forward(self, maps: Tensor) -> Tensor:
        """Return the coefficients [B, 2, 3] of maps [B, 2, 32, 32]."""
        self.settle()
        coefficients: Tensor = self.regressor(maps)
        return coefficients


def _settled(regressor: nn.Module, *_: object) -> None:
    if isinstance(regressor, FrozenRegressor):
        regressor.settle()


def _informed(regressor: nn.Module, _: object) -> None:
    if isinstance(regressor, FrozenRegressor):
        regressor._knows = True


@cache
def trained_weights() -> tuple[Tensor, ...]:
    """Train the regressor on drawn shapes, once per process, from a fixed seed, in seconds."""
    regressor = _train(lambda generator: drawn_pairs(SHAPES_A_STEP, generator))
    return tuple(parameter.detach() for parameter in regressor.parameters())


def train_on_borders(borders: Tensor, *, on_progress: ProgressCallback | None = None) -> dict[str, Tensor]:
    """Train the regressor, from a fixed seed, on border maps [M, 1, 64, 64] of a data set; return its weights."""

    def draw(generator: torch.Generator) -> tuple[Tensor, Tensor]:
        return moved_pairs(borders[torch.randint(len(borders), (SHAPES_A_STEP,), generator=generator)], generator)

    regressor = _train(draw, steps=DATA_STEPS, on_progress=on_progress)
    return {name: value.detach().clone() for name, value in regressor.state_dict().items()}


def _train(
    draw: Callable[[torch.Generator], tuple[Tensor, Tensor]],
    *,
    steps: int = STEPS,
    on_progress: ProgressCallback | None = None,
) -> Regressor:
    """Minimise the L2 distance between found and true coefficients."""
    generator = torch.Generator().manual_seed(0)
    with torch.enable_grad(), torch.autocast("cpu", enabled=False):
        regressor = Regressor(generator)
        optimizer = torch.optim.Adam(regressor.parameters(), lr=2e-3)
        for step in range(1, steps + 1):
            maps, coefficients = draw(generator)
            optimizer.zero_grad()
            error = (regressor(maps) - coefficients).square().mean()
            torch.autograd.backward(error)
            optimizer.step()
            if on_progress is not None and step % CHECK_EVERY == 0:
                on_progress(step, steps, float(error.detach()))
    return regressor


def drawn_pairs(count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Draw border maps of random shapes beside their transforms, [count, 2, 32, 32], and the coefficients."""
    field = F.interpolate(torch.randn(count, 1, 6, 6, generator=generator, dtype=KIND), size=(64, 64), mode="bicubic")
    return moved_pairs(local_range((field > 0.3).to(KIND)), generator)


def moved_pairs(borders: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return border maps [B, 1, 64, 64] beside random transforms of them, [B, 2, 32, 32], and the coefficients."""
    count = len(borders)
    spread = torch.tensor([[0.2, 0.2, 0.25], [0.2, 0.2, 0.25]], dtype=KIND)
    coefficients = (2 * torch.rand(count, 2, 3, generator=generator, dtype=KIND) - 1) * spread
    # some pairs are the same map twice: nothing to move must be found too
    coefficients[: count // 8] = 0
    theta = coefficients + torch.eye(3, dtype=KIND)[:2]
    grid = F.affine_grid(theta, [count, 1, 64, 64], align_corners=False)
    moved = F.grid_sample(borders, grid, align_corners=False)
    return F.adaptive_avg_pool2d(torch.cat([moved, borders], 1), SIDE), coefficients


def label_borders(labels: Tensor) -> Tensor:
    """Return the border maps [B, 1, 64, 64] of integer labels [B, H, W], of any number of classes."""
    borders = (local_range(labels.unsqueeze(1).float()) > 0).float()
    return F.adaptive_avg_pool2d(borders, 2 * SIDE)


@segmentation_loss()
def inverse_form(view: LossInputs, *, state: FrozenRegressor, variant: str, edge_weight: float) -> Tensor:
    """InverseForm loss (Borse et al. 2021): distance of the border's transform + edge_weight * BCE of the border.

    Border maps are how much the probabilities (and the one-hot target) vary within a pixel's neighbourhood; the frozen
    regressor says which affine transform lies between them. "euclidean" is the norm of what it adds to the identity,
    "geodesic" the angle of its nearest rotation. 3-D volumes are taken slice by slice. The released code feeds a
    constant to its regressor, which gives no gradient; ours has one. The paper trains the regressor on borders of
    photographs; ours on those of the data set in a training, else on drawn shapes.
    """
    guess, rest, truth = border_maps(view)
    maps = F.adaptive_avg_pool2d(torch.stack([guess, truth], 1), SIDE)
    coefficients = state(maps)
    if variant == "euclidean":
        distance = coefficient_distance(coefficients.flatten(1))
    else:
        identity = torch.eye(3, dtype=maps.dtype, device=maps.device)
        bottom = identity[2:].expand(len(coefficients), 1, 3)
        distance = geodesic_distance(torch.cat([coefficients + identity[:2], bottom], 1))
    valid = view.valid.view(-1, *guess.shape[1:])
    seen = (valid.flatten(1).sum(1) > 0).to(distance.dtype)
    mean_distance = (distance * seen).sum() / seen.sum().clamp_min(1)
    entropy = -(truth * guess.clamp_min(MIN_EDGE).log() + (1 - truth) * rest.clamp_min(MIN_EDGE).log()) * valid
    return mean_distance + edge_weight * entropy.sum() / view.n_valid


def border_maps(view: LossInputs) -> tuple[Tensor, Tensor, Tensor]:
    """Return predicted border maps, one minus them, and true ones, [B', H, W] in [0, 1], slices as images."""
    p = view.probabilities.reshape(view.logits.shape)
    with torch.no_grad():
        hot = torch.zeros_like(view.probabilities).scatter_(1, view.flat_labels.unsqueeze(1), view.valid.unsqueeze(1))
        t = hot.reshape(view.logits.shape)
    others = sum_of_others(p) if view.void is None else sum_of_others(p) + view.void.unsqueeze(1)
    if p.ndim == 5:
        p, others, t = (maps.transpose(1, 2).flatten(0, 1) for maps in (p, others, t))
    # 1 - (max p - min p) = min (1 - p) + min p, where nothing is subtracted
    rest = _local_least(others) + _local_least(p)
    return local_range(p).amax(1), rest.amin(1), local_range(t).amax(1)


def sum_of_others(p: Tensor) -> Tensor:
    """Return 1 - p of probabilities [B, C, *S], as the sum of the other classes': exact where p is nearly 1."""
    nothing = torch.zeros_like(p[:, :1])
    before = torch.cat([nothing, p[:, :-1].cumsum(1)], 1)
    after = torch.cat([p[:, 1:].flip(1).cumsum(1).flip(1), nothing], 1)
    return before + after


def local_range(maps: Tensor) -> Tensor:
    """Return the maximum less the minimum over the 3 x 3 neighbourhood of maps [B, C, H, W]."""
    return F.max_pool2d(_pad(maps), 3, stride=1) - _local_least(maps)


def _local_least(maps: Tensor) -> Tensor:
    return -F.max_pool2d(-_pad(maps), 3, stride=1)


def _pad(maps: Tensor) -> Tensor:
    return F.pad(maps, (1, 1, 1, 1), mode="replicate")


def euclidean_distance(theta: Tensor) -> Tensor:
    """Return ||theta - I|| over the free parameters of transforms [..., 3, 3] or [..., 2, 3]."""
    identity = torch.eye(3, dtype=theta.dtype, device=theta.device)[: theta.shape[-2]]
    return coefficient_distance((theta - identity).flatten(-2))


def coefficient_distance(coefficients: Tensor) -> Tensor:
    """Return the norm of coefficients [..., K] that are all zero for the identity; its slope at zero is zero."""
    square = coefficients.square().sum(-1)
    away = square > MIN_RANGE
    return torch.where(away, torch.where(away, square, 1).sqrt(), 0)


def geodesic_distance(theta: Tensor) -> Tensor:
    """Return the angle, arccos((trace - 1) / 2), of the rotation that is nearest to transforms theta [..., 3, 3].

    The rotation comes from Newton's iteration: the derivative of a singular value decomposition is infinite where
    singular values are equal, which is to say at every rotation. The angle comes from sine and cosine, likewise.
    """
    rotation = theta / torch.linalg.matrix_norm(theta, keepdim=True)
    for _ in range(25):
        rotation = 1.5 * rotation - 0.5 * rotation @ rotation.mT @ rotation
    cosine = (rotation.diagonal(dim1=-2, dim2=-1).sum(-1) - 1) / 2
    sine = coefficient_distance((rotation - rotation.mT).flatten(-2)) / 8**0.5
    return torch.atan2(sine, cosine)

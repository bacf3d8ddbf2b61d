"""Cases of vectors that reach below a registered loss: terms, variants of released code, losses with own inputs."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from tuner.losses import mutual_information
from tuner.losses.active_boundary import direction_loss
from tuner.losses.batch import read_inputs
from tuner.losses.boundary import EROSIONS
from tuner.losses.boundary_aware import bin_entropy, distance_bins
from tuner.losses.catalog.registry import LOSSES
from tuner.losses.conditional_boundary import CENTRE, CONTEXT, PULL, boundary_parts
from tuner.losses.distance_transform import target_map
from tuner.losses.inverse_form import coefficient_distance, euclidean_distance, geodesic_distance
from tuner.losses.pixel import weighted_cross_entropy
from tuner.losses.robust import student_t
from tuner.registry import load

VOID = 255


class Params(dict[str, Any]):
    """Parameters of a vector; what is taken is removed, so that what is left was not understood."""

    def take(self, *names: str, default: Any = None) -> Any:
        """Return the parameter under the first of these names that is there, and remove it."""
        found = [self.pop(name) for name in names if name in self]
        return found[0] if found else default

    def rest(self) -> dict[str, Any]:
        """Return and remove all that is left."""
        left = dict(self)
        self.clear()
        return left

    def only(self, name: str, *legal: Any) -> None:
        """Take a parameter whose other values we do not have; raises ValueError on one of these."""
        value = self.take(name, default=legal[0])
        if value not in legal:
            raise ValueError(f"{name} = {value!r}: ours has {', '.join(map(repr, legal))} only")


Case = Callable[[Tensor, Tensor, Params], Tensor]


def defaults(name: str) -> dict[str, Any]:
    return {option.name: option.default for option in LOSSES[name].own_options}


def mutual_information_parts(logits: Tensor, target: Tensor, params: Params) -> dict[str, Tensor]:
    view = read_inputs(logits, target, ignore_index=VOID)
    params.only("pos_alpha", mutual_information.RIDGE)
    params.only("clip", mutual_information.CLIP)
    own = defaults("region_mutual_information")
    information = mutual_information.region_information(
        view,
        radius=params.take("radius", default=own["radius"]),
        stride=params.take("pool_size", "stride", default=own["stride"]),
        pool=params.take("pool", default=own["pool"]),
    )
    soft = params.take("mode", default="sigmoid") == "softmax"
    entropy = weighted_cross_entropy(view, weights=None) if soft else mutual_information.binary_entropy(view)
    return {"bce": entropy, "rmi": information}


def mutual_information_loss(logits: Tensor, target: Tensor, params: Params) -> Tensor:
    share = params.take("lambda", "lam", "weight", default=0.5)
    parts = mutual_information_parts(logits, target, params)
    return share * parts["bce"] + (1 - share) * parts["rmi"]


def student_t_loss(logits: Tensor, target: Tensor, params: Params) -> Tensor:
    view = read_inputs(logits, target, ignore_index=VOID, sums=True)
    missed, false = view.error_sums(per_image=True, power=2.0)
    nu = torch.tensor(params.take("nu", default=1.0), dtype=logits.dtype)
    pixels = view.counts.sum(1, keepdim=True)
    precision = params.take("inv_scale", default=1.0)
    return student_t((missed + false)[:, 1:], pixels, nu, precision=precision).mean()


def boundary_of_classes(logits: Tensor, target: Tensor, params: Params) -> Tensor:
    """The boundary loss over the classes `idc`, ours having foreground or all: the others' maps are zero."""
    classes = max(2, logits.shape[1])
    view = read_inputs(logits, target, ignore_index=VOID)
    counted = params.take("idc", default=list(range(1, classes)))
    phi = target_map(view, "signed_distance", None).clone()
    offset = params.take("inner_offset", default=1.0)
    own = target_map(view, "own_distance", None)
    hot = torch.zeros_like(phi).scatter_(1, view.labels.unsqueeze(1), (own > 0).to(phi.dtype).unsqueeze(1))
    phi = phi + (offset - 1) * hot
    phi[:, [c for c in range(classes) if c not in counted]] = 0
    normalise = params.take("normalise", default=False)
    value = load(LOSSES["boundary"].fn)(
        logits, target, ignore_index=VOID, signed_distance=phi, include_background=True, normalise=normalise
    )
    return value * classes / len(counted)


def hausdorff(variant: str | None) -> Case:
    def run(logits: Tensor, target: Tensor, params: Params) -> Tensor:
        form = {"DT": "distance", "ER": "erosion"}
        chosen = variant or params.take("variant", default="distance")
        params.only("erosions", EROSIONS)
        options = defaults("hausdorff") | {"variant": form.get(chosen, chosen)}
        options |= {key: params.take(key, default=value) for key, value in options.items() if key != "variant"}
        return load(LOSSES["hausdorff"].fn)(logits, target, ignore_index=VOID, **options)

    return run


def active_boundary(logits: Tensor, target: Tensor, params: Params) -> Tensor:
    view = read_inputs(logits, target, ignore_index=VOID)
    params.only("detach_neighbours", True)
    distance = target_map(view, "label_border_distance", None)
    return direction_loss(
        view,
        distance.trunc() if params.take("truncate_distance", default=False) else distance,
        boundary_share=params.take("max_N_ratio", "boundary_share", default=0.01),
        theta=params.take("theta", default=20.0),
        label_smoothing=params.take("label_smoothing", default=0.2),
    )


def region_wise(logits: Tensor, target: Tensor, params: Params) -> Tensor:
    kind = params.take("map", default="rrw").split()[0]
    return load(LOSSES["region_wise"].fn)(logits, target, ignore_index=VOID, map=kind)


def boundary_aware(logits: Tensor, target: Tensor, params: Params) -> Tensor:
    classes = params.take("classes", default=2)
    view = read_inputs(torch.zeros(len(target), classes, *target.shape[1:]).double(), target, ignore_index=VOID)
    radius, bins = params.take("R", "radius"), params.take("K", "bins", default=logits.shape[1])
    return bin_entropy(
        logits, distance_bins(view, target_map(view, "own_distance", None), radius=radius, bins=bins), view
    )


class NothingToMove(torch.nn.Module):
    """A regressor that finds nothing to move, which leaves InverseForm its border term."""

    def forward(self, maps: Tensor) -> Tensor:
        return maps.new_zeros(len(maps), 2, 3)


def inverse_form(logits: Tensor | None, target: Tensor | None, params: Params) -> Tensor:
    variant = params.take("variant", default="euclidean")
    if variant == "edge":
        function = load(LOSSES["inverse_form"].fn)
        return function(logits, target, ignore_index=VOID, state=NothingToMove(), variant="euclidean", edge_weight=1.0)
    if "coefficients" in params:
        return coefficient_distance(params.take("coefficients")).mean()
    params.only("n_params", 6, 8, None)
    theta = params.take("theta")
    distance = geodesic_distance if variant.startswith("geodesic") else euclidean_distance
    return distance(theta).mean()


def conditional_boundary_parts(logits: Tensor, target: Tensor, params: Params) -> dict[str, Tensor]:
    params.only("filter_context_pairs", False)
    view = read_inputs(logits, target, ignore_index=VOID)
    parts = boundary_parts(
        view,
        params.take("boundary_mask") > 0,
        params.take("features"),
        weight=params.take("classifier_weight"),
        bias=params.take("classifier_bias"),
        window=params.take("kernel", "window", default=5),
    )
    return {"ctx": parts.context, "nce": parts.centre, "cn": parts.pull}


def conditional_boundary(logits: Tensor, target: Tensor, params: Params) -> Tensor:
    published = {"ctx": CONTEXT, "nce": CENTRE, "cn": PULL}
    weights = {key: params.take(f"w_{key}", default=value) for key, value in published.items()}
    parts = conditional_boundary_parts(logits, target, params)
    total = sum(weights[key] * parts[key] for key in parts)
    assert isinstance(total, Tensor)
    return total

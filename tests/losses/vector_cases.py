"""How each vector's loss and parameters are spelt in our functions."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from tuner.losses import combination, lovasz, pixel
from tuner.losses.active_boundary import direction_loss
from tuner.losses.blend import blend_of
from tuner.losses.boundary_aware import bin_entropy, distance_bins
from tuner.losses.catalogue import LOSSES
from tuner.losses.conditional_boundary import boundary_parts
from tuner.losses.hausdorff import EROSIONS
from tuner.losses.inverse_form import coefficient_distance, euclidean_distance, geodesic_distance
from tuner.losses.moment import Moment
from tuner.losses.overlap_variants import squared_errors
from tuner.losses.robust import student_t
from tuner.losses.target_maps import target_map
from tuner.losses.view import read_view
from tuner.losses.wasserstein import wasserstein_dice
from tuner.registry import load

Vector = dict[str, Any]
Case = Callable[[Tensor, Tensor, dict[str, Any]], Tensor]
VOID = 255


def named(name: str, renamed: dict[str, str] | None = None, **fixed: Any) -> Case:
    """A case that calls the registry's function, its parameters renamed, all others at `fixed` or default."""

    def run(logits: Tensor, target: Tensor, params: dict[str, Any]) -> Tensor:
        row = LOSSES[name]
        options = {option.name: option.default for option in row.own_options} | fixed
        for key, value in params.items():
            options[(renamed or {}).get(key, key)] = value
        options.pop("ignore_index", None)
        if "class_frequencies" in row.needs:
            options.setdefault("class_frequencies", [1.0 / max(2, logits.shape[1])] * max(2, logits.shape[1]))
        unknown = options.keys() - {o.name for o in row.own_options} - set(row.needs)
        if unknown:
            raise KeyError(f"{name} has no option {', '.join(sorted(unknown))}")
        return load(row.fn)(logits, target, ignore_index=VOID, **options)

    return run


def cross_entropy(logits: Tensor, target: Tensor, params: dict[str, Any]) -> Tensor:
    weights = params.get("class_weights")
    return pixel.weighted_cross_entropy(
        read_view(logits, target, ignore_index=VOID),
        weights=None if weights is None else torch.tensor(weights, dtype=logits.dtype),
        label_smoothing=params.get("label_smoothing", 0.0),
        normalise=params.get("normalise", "weights"),
    )


def focal(logits: Tensor, target: Tensor, params: dict[str, Any]) -> Tensor:
    alpha = params.get("alpha")
    if params.get("mode") == "sigmoid":
        return pixel.focal_sigmoid(logits, target, ignore_index=VOID, gamma=params["gamma"], alpha=alpha)
    weights = None if alpha is None else torch.tensor(alpha, dtype=logits.dtype)
    return pixel.weighted_focal(read_view(logits, target, ignore_index=VOID), weights=weights, gamma=params["gamma"])


def focal_tversky(logits: Tensor, target: Tensor, params: dict[str, Any]) -> Tensor:
    params = dict(params)
    reduce = params.pop("reduce", "mean")
    rename = {"fp_weight": "alpha", "fn_weight": "beta"}
    value = named("focal_tversky", rename, classes="all", smooth=0.0)(logits, target, params)
    return value * max(2, logits.shape[1]) if reduce == "sum" else value


def lovasz_hinge(logits: Tensor, target: Tensor, params: dict[str, Any]) -> Tensor:
    return lovasz.lovasz_hinge(logits, target, ignore_index=VOID, per_image=params.get("per_image", False))


def combo(logits: Tensor, target: Tensor, params: dict[str, Any]) -> Tensor:
    form = params.get("form", "survey")
    alpha, smooth = params.get("alpha", 0.5), params.get("smooth", 1.0)
    view = read_view(logits, target, ignore_index=VOID, sums=True)
    if "multi-class" in form:
        weights = torch.tensor(params.get("class_weights", [1.0] * view.classes), dtype=logits.dtype)
        return combination.combo_parts(
            view, weights=weights, normalise="weights", alpha=alpha, smooth=smooth, background=True
        )
    value = named("combo")(logits, target, {"alpha": alpha, "beta": params.get("beta", 0.5), "smooth": smooth})
    return value - (1 - alpha) if form.startswith("original") else value


def exp_log(logits: Tensor, target: Tensor, params: dict[str, Any]) -> Tensor:
    frequencies = params.get("class_freq")
    options = {
        # without class frequencies the vectors weigh every class by 1: one class holds the whole sum
        "class_frequencies": [1.0] + [0.0] * (logits.shape[1] - 1) if frequencies is None else frequencies,
        "dice_weight": params["w_dice"],
        "gamma": params["gamma_dice"],
        "smooth": params.get("eps", 1.0),
        "classes": params.get("classes", "all"),
    }
    assert params["gamma_dice"] == params["gamma_ce"]
    assert abs(params["w_dice"] + params["w_ce"] - 1) < 1e-12
    return named("exponential_logarithmic")(logits, target, options)


def unified_focal(logits: Tensor, target: Tensor, params: dict[str, Any]) -> Tensor:
    params = {key: value for key, value in params.items() if key != "rare"}
    rename = {"lambda": "weight", "asym": "asymmetric", "eps": "smooth"}
    return named("unified_focal", rename, classes="all", smooth=0.0)(logits, target, params)


def distance_map_ce(logits: Tensor, target: Tensor, params: dict[str, Any]) -> Tensor:
    options = {"map": params.get("phi", "reversed_norm"), "weight": params.get("lam", 1.0)}
    return named("distance_map_ce")(logits, target, options)


def wasserstein(logits: Tensor, target: Tensor, params: dict[str, Any]) -> Tensor:
    return wasserstein_dice(
        read_view(logits, target, ignore_index=VOID),
        distances=torch.tensor(params["M"], dtype=logits.dtype),
        weighting=params.get("weighting", "default").lower(),
        background=params.get("background", 0),
        smooth=params.get("eps", 0.0),
    )


def rmi(logits: Tensor, target: Tensor, params: dict[str, Any]) -> Tensor:
    known = {"radius": params["radius"], "pool": params["pool"], "stride": params["pool_size"]}
    return named("region_mutual_information")(logits, target, {**known, "weight": params["lambda"]})


def t_loss(logits: Tensor, target: Tensor, params: dict[str, Any]) -> Tensor:
    view = read_view(logits, target, ignore_index=VOID, sums=True, squares=True)
    missed, false = squared_errors(view)
    nu = torch.tensor(params["nu"], dtype=logits.dtype)
    pixels = view.counts.sum(1, keepdim=True)
    return student_t((missed + false)[:, 1:], pixels, nu, precision=params.get("inv_scale", 1.0)).mean()


def boundary(logits: Tensor, target: Tensor, params: dict[str, Any]) -> Tensor:
    everything = params.get("idc") == list(range(max(2, logits.shape[1])))
    bare = named("boundary", include_background=everything)(logits, target, {})
    if "schedule" not in params:
        return bare
    options = {"schedule": params["schedule"], "base": "dice"}
    row = LOSSES["boundary"]
    chosen = {name: option.default for name in row.blend for option in row.options if option.name == name} | options
    base = named("dice", classes="all", smooth=1e-5)(logits, target, {})
    blend = blend_of(row, chosen)
    return blend.mix([bare, base], blend.weights(Moment(params["epoch"] + 1, 1000)))


def hausdorff(variant: str) -> Case:
    def run(logits: Tensor, target: Tensor, params: dict[str, Any]) -> Tensor:
        assert params.get("erosions", EROSIONS) == EROSIONS
        options = {"alpha": params.get("alpha", 2.0), "include_background": params.get("include_background", False)}
        return named("hausdorff", variant=variant)(logits, target, options)

    return run


def active_boundary(logits: Tensor, target: Tensor, params: dict[str, Any]) -> Tensor:
    view = read_view(logits, target, ignore_index=VOID)
    distance = target_map(view, "label_border_distance", None)
    return direction_loss(
        view,
        distance.trunc() if params.get("truncate_distance") else distance,
        boundary_share=params.get("max_N_ratio", 0.01),
        theta=params.get("theta", 20.0),
        label_smoothing=params.get("label_smoothing", 0.2),
    )


def region_wise(logits: Tensor, target: Tensor, params: dict[str, Any]) -> Tensor:
    return named("region_wise")(logits, target, {"map": params["map"].split()[0]})


def generalized_dice(logits: Tensor, target: Tensor, params: dict[str, Any]) -> Tensor:
    return named("generalized_dice", {"w_type": "class_weighting"}, batch=False)(logits, target, params)


def logit_adjusted(logits: Tensor, target: Tensor, params: dict[str, Any]) -> Tensor:
    return named("logit_adjusted_ce", {"prior": "class_frequencies"})(logits, target, params)


def soft_cldice(logits: Tensor, target: Tensor, params: dict[str, Any]) -> Tensor:
    assert params.get("channel", 1) == 1
    assert logits.shape[1] == 2
    options = {"iterations": params.get("iter", 3), "smooth": params.get("smooth", 1.0)}
    return named("soft_cldice", classes="all")(logits, target, options)


def boundary_aware(logits: Tensor, target: Tensor, params: dict[str, Any]) -> Tensor:
    view = read_view(torch.zeros(len(target), 2, *target.shape[1:]).double(), target, ignore_index=VOID)
    bins = distance_bins(view, target_map(view, "own_distance", None), radius=params["R"], bins=params["K"])
    return bin_entropy(logits, bins, view)


def inverse_form(logits: Tensor | None, target: Tensor | None, params: dict[str, Any]) -> Tensor:
    if "coefficients" in params:
        return coefficient_distance(torch.tensor(params["coefficients"], dtype=torch.float64)).mean()
    theta = torch.tensor(params["theta"], dtype=torch.float64)
    return geodesic_distance(theta) if params["variant"].startswith("geodesic") else euclidean_distance(theta)


def conditional_boundary(logits: Tensor, target: Tensor, params: dict[str, Any]) -> Tensor:
    near, features, weight, bias = (
        torch.tensor(params[key], dtype=torch.float64)
        for key in ("boundary_mask", "features", "classifier_weight", "classifier_bias")
    )
    view = read_view(logits, target, ignore_index=VOID)
    parts = boundary_parts(view, near > 0, features, weight=weight, bias=bias, window=params["kernel"])
    return params["w_ctx"] * parts.context + params["w_nce"] * parts.centre + params["w_cn"] * parts.pull


TVERSKY = {"fp_weight": "alpha", "fn_weight": "beta"}
COMPOUND = {"w": "weight", "w_ce": "weight", "lambda": "weight", "lambda_ce": "weight", "ce_weight": "weight"}

CASES: dict[str, Case] = {
    "cross_entropy": cross_entropy,
    "topk": named("topk", {"k_percent": "k"}),
    "focal": focal,
    "distance_map_ce": distance_map_ce,
    "dice": named("dice", classes="all", smooth=0.0),
    "log_cosh_dice": named("log_cosh_dice", classes="all", smooth=0.0),
    "generalized_wasserstein_dice": wasserstein,
    "jaccard": named("jaccard", classes="all", smooth=0.0),
    "lovasz_softmax": named("lovasz_softmax"),
    "lovasz_hinge": lovasz_hinge,
    "tversky": named("tversky", TVERSKY, classes="all", smooth=0.0),
    "focal_tversky": focal_tversky,
    "sensitivity_specificity": named("sensitivity_specificity", {"r": "sensitivity_ratio"}, classes="all", smooth=0.0),
    "rmi": rmi,
    "t_loss": t_loss,
    "boundary": boundary,
    "hausdorff_dt": hausdorff("distance"),
    "hausdorff_er": hausdorff("erosion"),
    "boundary_aware": boundary_aware,
    "inverseform": inverse_form,
    "conditional_boundary": conditional_boundary,
    "active_boundary": active_boundary,
    "boundary_dou": named("boundary_dou"),
    "region_wise": region_wise,
    "combo": combo,
    "exp_log": exp_log,
    "unified_focal": unified_focal,
    "dice_cross_entropy": named("dice_cross_entropy", COMPOUND),
    "dice_focal": named("dice_focal", COMPOUND),
    "generalized_dice": generalized_dice,
    "poly1_ce": named("poly1"),
    "logit_adjusted_ce": logit_adjusted,
    "mcc": named("mcc", {"eps": "smooth"}, classes="all", smooth=0.0),
    "soft_cldice": soft_cldice,
}


def case_of(loss: str) -> Case | None:
    """Return how a vector's loss is run, or None for a loss that is not ours."""
    if loss in CASES:
        return CASES[loss]
    return named(loss) if loss in LOSSES else None

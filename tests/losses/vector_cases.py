"""How each vector's loss and parameters are spelt in our functions; a parameter that nobody reads is an error."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from tests.losses import vector_terms as terms
from tests.losses.vector_terms import VOID, Case, Params
from tuner.losses import compound, pixel
from tuner.losses.batch import EpochProgress, read_inputs
from tuner.losses.build import COMPANION, combination_of
from tuner.losses.catalog.registry import LOSSES
from tuner.losses.region import wasserstein_dice
from tuner.losses.robust import DegreesOfFreedom
from tuner.registry import load

OVERLAP = {"background": "include_background"}
ERRORS = {"fp_weight": "alpha", "fn_weight": "beta"} | OVERLAP
DISTANCE = {"phi": "map", "lam": "weight", "lambda": "weight", "sigma": "decay_px", "sigma_px": "decay_px"}
SHARE = dict.fromkeys(("w", "w_ce", "lambda", "lam", "lambda_ce", "ce_weight", "w_focal", "w_topk"), "weight")


def named(name: str, renamed: Mapping[str, str] | None = None, **fixed: Any) -> Case:
    """A case that calls the registry's function, its parameters renamed, all others at `fixed` or default."""

    def run(logits: Tensor, target: Tensor, params: Params) -> Tensor:
        row, given = LOSSES[name], dict(renamed or {})
        options = {option.name: option.default for option in row.own_options} | fixed
        known = options.keys() | set(row.needs)
        share = params.take("w_ce", COMPANION, default=0.0) if COMPANION in row.mixing_options else 0.0
        weights = params.take("class_weights") if "class_weight_exponent" in options else None
        for key in list(params):
            if given.get(key, key) in known:
                options[given.get(key, key)] = params.take(key)
        if weights is not None:
            # f^-1 for the weights' inverses; ours are scaled to mean 1
            options |= {"class_weight_exponent": 1.0, "class_frequencies": [1 / w for w in weights]}
        if "class_frequencies" in row.needs:
            classes = max(2, logits.shape[1])
            options.setdefault("class_frequencies", [1.0 / classes] * classes)
        value = load(row.fn)(logits, target, ignore_index=VOID, **options)
        return value if share == 0 else (1 - share) * value + share * _nll_mean(logits, target)

    return run


def _nll_mean(logits: Tensor, target: Tensor) -> Tensor:
    return pixel.weighted_cross_entropy(read_inputs(logits, target, ignore_index=VOID), weights=None)


def cross_entropy(logits: Tensor, target: Tensor, params: Params) -> Tensor:
    weights, omega = params.take("class_weights"), params.take("omega", "class_weight_exponent", default=0.0)
    if omega:
        weights = [f**-omega for f in params.take("class_freq", "class_frequencies")]
    rule = params.take("normalise", default="weights")
    if params.take("mode", default="softmax") == "sigmoid":
        # -a t ln s(z) - (1 - t) ln s(-z), divided by the number of pixels
        weights, rule = [1.0, params.take("pos_weight", default=1.0)], "count"
    return pixel.weighted_cross_entropy(
        read_inputs(logits, target, ignore_index=VOID),
        weights=None if weights is None else torch.tensor(weights, dtype=logits.dtype),
        label_smoothing=params.take("label_smoothing", default=0.0),
        normalise=rule,
    )


def focal(logits: Tensor, target: Tensor, params: Params) -> Tensor:
    gamma, alpha = params.take("gamma", default=2.0), params.take("alpha", "class_weights")
    if params.take("mode", default="softmax") == "sigmoid":
        return named("sigmoid_focal")(logits, target, Params({"gamma": gamma, "alpha": alpha}))
    if isinstance(alpha, float) and max(2, logits.shape[1]) == 2:
        alpha = [1 - alpha, alpha]
    weights = None if alpha is None else torch.tensor(alpha, dtype=logits.dtype)
    return pixel.weighted_focal(read_inputs(logits, target, ignore_index=VOID), weights=weights, gamma=gamma)


def tversky(name: str) -> Case:
    def run(logits: Tensor, target: Tensor, params: Params) -> Tensor:
        reduce = params.take("reduce", default="mean")
        if "exponent" in params:
            params["gamma"] = 1 / params.take("exponent")
        value = named(name, ERRORS, classes="all", smooth=0.0)(logits, target, params)
        return value * max(2, logits.shape[1]) if reduce == "sum" else value

    return run


def marginal(logits: Tensor, target: Tensor, params: Params) -> Tensor:
    if "labelled" in params:
        params["labelled"] = torch.tensor(params["labelled"])
    return named("marginal_dice_cross_entropy")(logits, target, params)


def combo(logits: Tensor, target: Tensor, params: Params) -> Tensor:
    form, weights = params.take("form", default="survey"), params.take("class_weights")
    alpha, smooth = params.take("alpha", default=0.5), params.take("smooth", default=1.0)
    view = read_inputs(logits, target, ignore_index=VOID, sums=True)
    if "multi-class" in form or weights is not None or view.classes > 2:
        params.take("beta")
        value = compound.combo_parts(
            view,
            weights=torch.tensor(weights or [1.0] * view.classes, dtype=logits.dtype),
            normalise="weights",
            alpha=alpha,
            smooth=smooth,
            background=True,
        )
    else:
        given = {"alpha": alpha, "beta": params.take("beta", default=0.5), "smooth": smooth}
        value = named("combo")(logits, target, Params(given))
    return value - (1 - alpha) if form.startswith("original") else value


def exp_log(logits: Tensor, target: Tensor, params: Params) -> Tensor:
    frequencies = params.take("class_freq", "class_frequencies")
    both = params.take("gamma", default=0.3)
    dice_weight = params.take("w_dice", "dice_weight", default=0.8)
    shared = {
        # without class frequencies the vectors weigh every class by 1: one class holds the whole sum
        "class_frequencies": [1.0] + [0.0] * (max(2, logits.shape[1]) - 1) if frequencies is None else frequencies,
        "smooth": params.take("eps", "smooth", default=1.0),
        "classes": params.take("classes", default="all"),
        "batch": params.take("batch", default=True),
    }
    run = named("exponential_logarithmic")
    rough = {"dice_weight": 1.0, "gamma": params.take("gamma_dice", default=both)}
    fine = {"dice_weight": 0.0, "gamma": params.take("gamma_ce", default=both)}
    pixel_weight = params.take("w_ce", default=1 - dice_weight)
    return dice_weight * run(logits, target, Params(shared | rough)) + pixel_weight * run(
        logits, target, Params(shared | fine)
    )


def unified_focal(logits: Tensor, target: Tensor, params: Params) -> Tensor:
    rare = params.take("rare")
    if rare is not None and sorted(rare) != list(range(1, logits.shape[1])):
        common = [c for c in range(logits.shape[1]) if c not in rare]
        if len(common) != 1:
            raise ValueError(f"rare classes {rare}: ours has one common class")
        order = [*common, *rare]
        logits = logits[:, order]
        target = torch.tensor([order.index(c) if c in order else c for c in range(VOID + 1)])[target]
    rename = {"lambda": "weight", "lam": "weight", "asym": "asymmetric", "eps": "smooth"}
    return named("unified_focal", rename, classes="all", smooth=0.0)(logits, target, params)


def wasserstein(logits: Tensor, target: Tensor, params: Params) -> Tensor:
    matrix, weighting = params.take("M"), params.take("weighting", default="default").lower()
    smooth = params.take("eps", "smooth", default=0.0)
    if matrix is None:
        given = {"weighting": weighting, "smooth": smooth}
        rename = {"sibling": "sibling_distance", "delta": "sibling_distance"}
        params.update(given)
        return named("generalized_wasserstein_dice", rename)(logits, target, params)
    return wasserstein_dice(
        read_inputs(logits, target, ignore_index=VOID),
        distances=torch.tensor(matrix, dtype=logits.dtype),
        weighting=weighting,
        background=params.take("background", default=0),
        smooth=smooth,
    )


def t_loss(logits: Tensor, target: Tensor, params: Params) -> Tensor:
    start = params.take("nu_tilde", "log_degrees_of_freedom")
    if start is None:
        return terms.student_t_loss(logits, target, params)
    state = DegreesOfFreedom(classes=max(2, logits.shape[1]), log_degrees_of_freedom=start, learning_rate=1e-3).double()
    return named("robust_t", per_pixel=False)(logits, target, Params(params.rest() | {"state": state}))


def boundary(logits: Tensor, target: Tensor, params: Params) -> Tensor:
    bare = terms.boundary_of_classes(logits, target, params)
    schedule = params.take("schedule")
    if schedule is None:
        return bare
    row = LOSSES["boundary"]
    chosen = {name: option.default for name in row.mixing_options for option in row.options if option.name == name}
    chosen |= {"schedule": schedule, "base": "dice"}
    chosen |= {ours: params.take(*keys, default=chosen[ours]) for ours, keys in BLEND_KEYS.items()}
    # the vectors give the weight that follows from the epoch, and say what the region loss is
    expected = params.take("alpha")
    if schedule == "constant" and expected is not None:
        chosen["weight"] = expected
    params.take("region")
    base = named("dice", classes="all", smooth=1e-5)(logits, target, Params())
    blend = combination_of(row, chosen)
    # the authors' 100 epochs lie behind in the 101st
    weights = blend.weights(EpochProgress(params.take("epoch", default=0) + 1, 101))
    if schedule == "rebalance" and expected is not None and not math.isclose(weights[1], expected):
        raise ValueError(f"rebalance has come to {weights[1]}, the vector's alpha is {expected}")
    return blend.mix([bare, base], weights)


BLEND_KEYS = {"weight": ("w", "weight"), "step": ("step",)}


def soft_cldice(logits: Tensor, target: Tensor, params: Params) -> Tensor:
    channel = params.take("channel")
    if channel is not None and logits.shape[1] > 2:
        log_p = F.log_softmax(logits, 1)
        rest = torch.cat([log_p[:, :channel], log_p[:, channel + 1 :]], 1).logsumexp(1)
        logits = torch.stack([rest, log_p[:, channel]], 1)
        target = torch.where(target == VOID, VOID, (target == channel).long())
    return named("soft_cldice", {"iter": "iterations"}, classes="all")(logits, target, params)


CASES: dict[str, Case] = {
    "cross_entropy": cross_entropy,
    "topk": named("topk", {"k_percent": "k"}),
    "focal": focal,
    "distance_map_ce": named("distance_map_ce", DISTANCE),
    "dice": named("dice", OVERLAP, classes="all", smooth=0.0),
    "log_cosh_dice": named("log_cosh_dice", OVERLAP, classes="all", smooth=0.0),
    "generalized_wasserstein_dice": wasserstein,
    "jaccard": named("jaccard", OVERLAP, classes="all", smooth=0.0),
    "lovasz_softmax": named("lovasz_softmax"),
    "lovasz_hinge": named("lovasz_hinge", per_image=False),
    "log_dice": named("log_dice", classes="all"),
    "cbdice": named("cbdice", classes="all"),
    "marginal_dice_cross_entropy": marginal,
    "tversky": tversky("tversky"),
    "focal_tversky": tversky("focal_tversky"),
    "sensitivity_specificity": named("sensitivity_specificity", {"r": "sensitivity_ratio"}, classes="all", smooth=0.0),
    "region_mutual_information": terms.mutual_information_loss,
    "robust_t": t_loss,
    "boundary": boundary,
    "hausdorff": terms.hausdorff(None),
    "hausdorff_dt": terms.hausdorff("distance"),
    "hausdorff_er": terms.hausdorff("erosion"),
    "log_hausdorff": named("log_hausdorff"),
    "boundary_aware": terms.boundary_aware,
    "inverse_form": terms.inverse_form,
    "conditional_boundary": terms.conditional_boundary,
    "active_boundary": terms.active_boundary,
    "boundary_dou": named("boundary_dou", classes="all"),
    "region_wise": terms.region_wise,
    "combo": combo,
    "exponential_logarithmic": exp_log,
    "unified_focal": unified_focal,
    "dice_cross_entropy": named("dice_cross_entropy", SHARE | OVERLAP),
    "dice_focal": named("dice_focal", SHARE | OVERLAP),
    "dice_topk": named("dice_topk", SHARE | OVERLAP | {"k_percent": "k"}),
    "generalized_dice_focal": named("generalized_dice_focal", SHARE | {"w_type": "class_weighting"}),
    "generalized_dice": named("generalized_dice", {"w_type": "class_weighting"}, batch=False),
    "poly1": named("poly1", {"eps": "epsilon"}),
    "logit_adjusted_ce": named("logit_adjusted_ce", {"prior": "class_frequencies"}),
    "nacl": named("nacl", {"alpha": "weight"}),
    "mcc": named("mcc", {"eps": "smooth"}, classes="all", smooth=0.0),
    "dice_plus_plus": named("dice_plus_plus", OVERLAP),
    "soft_cldice": soft_cldice,
}

# what the vectors, the papers and the libraries call the same loss
ALIASES = {
    "ce": "cross_entropy",
    "dmce": "distance_map_ce",
    "gwdl": "generalized_wasserstein_dice",
    "iou": "jaccard",
    "lovasz": "lovasz_softmax",
    "sens_spec": "sensitivity_specificity",
    "ssl": "sensitivity_specificity",
    "ftl": "focal_tversky",
    "rmi": "region_mutual_information",
    "t_loss": "robust_t",
    "tloss": "robust_t",
    "log_hausdorff_dt": "log_hausdorff",
    "abl": "active_boundary",
    "inverseform": "inverse_form",
    "cbl": "conditional_boundary",
    "bdou": "boundary_dou",
    "exp_log": "exponential_logarithmic",
    "ell": "exponential_logarithmic",
    "ufl": "unified_focal",
    "gdl": "generalized_dice",
    "poly1_ce": "poly1",
    "logit_adjusted": "logit_adjusted_ce",
    "cldice": "soft_cldice",
    "dice_ce": "dice_cross_entropy",
    "ohem": "ohem_ce",
}

PARTS: dict[str, Callable[[Tensor, Tensor, Params], dict[str, Tensor]]] = {
    "region_mutual_information": terms.mutual_information_parts,
    "conditional_boundary": terms.conditional_boundary_parts,
}


def our_name(loss: str) -> str:
    """Return what a vector's loss is called here."""
    return ALIASES.get(loss, loss)


def case_of(loss: str) -> Case | None:
    """Return how a vector's loss is run, or None for a loss that is not ours."""
    name = our_name(loss)
    return CASES.get(name) or (named(name) if name in LOSSES else None)

"""Which vectors are made: those that the specification names but does not list, and every loss over every scene."""

from collections.abc import Callable
from typing import Any

from tests.losses.by_hand import boundary, combination, neighbours, pixel, region, structure

Params = dict[str, Any]

FORMULAS: dict[tuple[str, str], Callable[..., float]] = {
    ("cross_entropy", ""): pixel.cross_entropy,
    ("cross_entropy", "sigmoid"): pixel.binary_cross_entropy,
    ("topk", ""): pixel.topk,
    ("focal", ""): pixel.focal,
    ("focal", "sigmoid"): pixel.sigmoid_focal,
    ("sigmoid_focal", ""): pixel.sigmoid_focal,
    ("ldam", ""): pixel.ldam,
    ("balanced_softmax", ""): pixel.balanced_softmax,
    ("distance_map_ce", ""): pixel.distance_map_ce,
    ("poly1_ce", ""): pixel.poly1,
    ("logit_adjusted_ce", ""): pixel.logit_adjusted,
    ("ohem_ce", ""): pixel.ohem_ce,
    ("nacl", ""): pixel.nacl,
    ("dice", ""): region.dice,
    ("log_cosh_dice", ""): region.log_cosh_dice,
    ("log_dice", ""): region.log_dice,
    ("jdt", ""): region.jdt,
    ("ssim", ""): structure.ssim,
    ("cbdice", ""): structure.cbdice,
    ("bce_dice", ""): combination.bce_dice,
    ("marginal_dice_cross_entropy", ""): combination.marginal_dice_cross_entropy,
    ("generalized_wasserstein_dice", ""): region.wasserstein,
    ("jaccard", ""): region.jaccard,
    ("lovasz_softmax", ""): region.lovasz,
    ("lovasz_hinge", ""): region.lovasz_hinge,
    ("tversky", ""): region.focal_tversky,
    ("focal_tversky", ""): region.focal_tversky,
    ("sensitivity_specificity", ""): region.sensitivity_specificity,
    ("rmi", ""): structure.rmi,
    ("t_loss", ""): region.student_t,
    ("generalized_dice", ""): region.generalized_dice,
    ("dice_plus_plus", ""): region.dice_plus_plus,
    ("mcc", ""): region.mcc,
    ("soft_cldice", ""): structure.soft_cldice,
    ("skeleton_recall", ""): structure.skeleton_recall,
    ("blob", ""): structure.blob,
    ("boundary", ""): boundary.boundary,
    ("hausdorff_dt", ""): boundary.hausdorff_dt,
    ("hausdorff_er", ""): boundary.hausdorff_er,
    ("log_hausdorff", ""): boundary.log_hausdorff,
    ("boundary_aware", ""): boundary.boundary_aware,
    ("active_boundary", ""): neighbours.active_boundary,
    ("inverseform", ""): boundary.edge_entropy,
    ("boundary_dou", ""): boundary.boundary_dou,
    ("region_wise", ""): boundary.region_wise,
    ("combo", ""): combination.combo,
    ("exp_log", ""): combination.exp_log,
    ("unified_focal", ""): combination.unified_focal,
    ("dice_cross_entropy", ""): combination.dice_cross_entropy,
    ("dice_focal", ""): combination.dice_focal,
    ("dice_topk", ""): combination.dice_topk,
    ("generalized_dice_focal", ""): combination.generalized_dice_focal,
}

# part of the prediction is read without a gradient
FIXED = frozenset({"active_boundary", "hausdorff_dt", "log_hausdorff"})

M = [[0, 1, 1], [1, 0, 0.5], [1, 0.5, 0]]
ALL: Params = {"smooth": 0.0, "classes": "all"}
TVERSKY: Params = {"fp_weight": 0.3, "fn_weight": 0.7}
RMI: Params = {"radius": 2, "pool": "max", "pool_size": 1, "lambda": 0.5}
ABL: Params = {"max_N_ratio": 0.3, "theta": 20.0, "label_smoothing": 0.2}
UFL: Params = {"lambda": 0.5, "delta": 0.6, "gamma": 0.5, "asym": True, "eps": 0.0}
ELL: Params = {"w_dice": 0.8, "w_ce": 0.2, "gamma_dice": 0.3, "gamma_ce": 0.3, "class_freq": [0.5, 0.3, 0.2]}

# (id, loss, scene, parameters)
NAMED: tuple[tuple[str, str, str, Params], ...] = (
    ("ce_B_weighted_count", "cross_entropy", "B", {"class_weights": [1, 2, 4], "normalise": "count"}),
    ("ce_E", "cross_entropy", "E", {}),
    ("bce_A_pos", "cross_entropy", "Ab", {"mode": "sigmoid", "pos_weight": 3.0}),
    ("topk_B_40", "topk", "B", {"k_percent": 40}),
    ("focal_B_g2_a", "focal", "B", {"gamma": 2.0, "alpha": [0.25, 0.75, 0.5]}),
    ("focal_B_g0.5", "focal", "B", {"gamma": 0.5, "alpha": None}),
    ("dmce_Dv_rev", "distance_map_ce", "Dv", {"phi": "reversed"}),
    ("dice_B_nobg", "dice", "B", ALL | {"include_background": False}),
    ("dice_C_present", "dice", "C", {"smooth": 1e-5, "classes": "present"}),
    ("dice_E_image", "dice", "E", {"smooth": 1e-5, "classes": "present", "batch": False}),
    ("logcosh_B", "log_cosh_dice", "B", ALL),
    ("gwdl_B_gdl", "generalized_wasserstein_dice", "B", {"M": M, "weighting": "GDL", "background": 0, "eps": 0.0}),
    ("iou_E", "jaccard", "E", {"smooth": 1e-5, "classes": "all", "batch": True}),
    ("lovasz_C_all", "lovasz_softmax", "C", {"classes": "all"}),
    ("lovasz_E_image", "lovasz_softmax", "E", {"classes": "present", "per_image": True}),
    ("tversky_A", "tversky", "A", ALL | TVERSKY),
    ("tversky_B_swap", "tversky", "B", ALL | {"fp_weight": 0.7, "fn_weight": 0.3}),
    ("ftl_B", "focal_tversky", "B", TVERSKY | {"gamma": 4 / 3, "smooth": 1.0, "reduce": "mean"}),
    ("ssl_E", "sensitivity_specificity", "E", {"r": 0.1, "smooth": 1e-5, "batch": True}),
    ("rmi_F_r2", "rmi", "F", RMI | {"pos_alpha": 0.0005, "clip": 1e-6, "mode": "sigmoid"}),
    ("tloss_A_nue", "t_loss", "A", {"nu": 2.718281828459045, "inv_scale": 1.0}),
    ("boundary_Dv", "boundary", "Dv", {"idc": [1], "inner_offset": 1.0}),
    ("boundary_increase", "boundary", "D", {"schedule": "increase", "epoch": 30, "idc": [1]}),
    ("hd_dt_K_all", "hausdorff_dt", "K", {"alpha": 1.0, "include_background": True}),
    ("abl_F_ls2", "active_boundary", "F", ABL | {"detach_neighbours": True}),
    ("bdou_H_trunc", "boundary_dou", "H", {"smooth": 1e-5, "alpha_max": 0.1, "classes": "all"}),
    ("rrw_Dv", "region_wise", "Dv", {"map": "rrw"}),
    ("combo_A_b7", "combo", "A", {"alpha": 0.4, "beta": 0.7, "smooth": 1.0, "form": "survey"}),
    ("combo_B", "combo", "B", {"alpha": 0.5, "class_weights": [1, 2, 4], "smooth": 1e-5, "form": "survey multi-class"}),
    ("ell_B_g1", "exp_log", "B", ELL | {"w_dice": 0.5, "w_ce": 0.5, "gamma_dice": 1.0, "gamma_ce": 1.0, "eps": 1.0}),
    ("ufl_A_asym_g2", "unified_focal", "A", UFL | {"lambda": 0.3, "delta": 0.7, "gamma": 0.2}),
    ("ufl_B_multi", "unified_focal", "B", UFL | {"rare": [1, 2], "classes": "all"}),
)

PRESENT: Params = {"smooth": 0.1, "classes": "present"}
IMAGE: Params = {"smooth": 0.1, "classes": "present", "batch": False}
NO_BACKGROUND: Params = {"smooth": 0.1, "classes": "all", "include_background": False}
SQUARED: Params = {"smooth": 0.1, "classes": "all", "squared": True, "batch": False}
DICE: Params = {"smooth": 0.1, "squared": False, "batch": True, "include_background": True, "classes": "present"}
RARE: Params = {"class_frequencies": [0.5, 0.3, 0.2]}
REVERSED: Params = {"phi": "reversed_norm", "lam": 2.0}
GENERALIZED: Params = {"class_weighting": "square", "smooth": 0.1, "batch": True}
SCENES = ("plane", "absent", "volume", "binary")

# per loss: parameter sets, over which scenes
TABLE: tuple[tuple[str, tuple[Params, ...], tuple[str, ...]], ...] = (
    ("cross_entropy", ({"label_smoothing": 0.1},), SCENES),
    ("cross_entropy", ({"class_weights": [1, 2, 4], "label_smoothing": 0.1, "normalise": "count"},), ("plane",)),
    ("cross_entropy", ({"mode": "sigmoid", "pos_weight": 2.0},), ("one_channel",)),
    ("topk", ({"k_percent": 30}, {"k_percent": 1}), SCENES),
    ("focal", ({"gamma": 0.5}, {"gamma": 3.0}), (*SCENES, "one_channel")),
    ("focal", ({"mode": "sigmoid", "gamma": 2.0, "alpha": 0.25},), ("plane", "one_channel")),
    ("distance_map_ce", (REVERSED, {"phi": "exp", "sigma": 2.0}, {"phi": "reversed"}), SCENES),
    ("poly1_ce", ({"epsilon": 2.0}, {"epsilon": -0.5}), SCENES),
    ("logit_adjusted_ce", ({"prior": [0.5, 0.3, 0.2], "tau": 1.5},), SCENES[:3]),
    ("ohem_ce", ({"threshold": 0.5, "minimum_share": 0.1}, {"threshold": 0.02, "minimum_share": 0.3}), SCENES),
    ("nacl", ({"weight": 0.2},), SCENES),
    ("dice", (PRESENT, IMAGE, NO_BACKGROUND, SQUARED), SCENES),
    ("log_cosh_dice", (PRESENT, SQUARED), SCENES),
    ("generalized_wasserstein_dice", ({"M": M}, {"M": M, "weighting": "GDL"}, {"M": M, "background": 1}), SCENES[:3]),
    ("generalized_wasserstein_dice", ({"M": [[0, 1], [1, 0]], "eps": 0.1},), ("binary",)),
    ("jaccard", (PRESENT, IMAGE, NO_BACKGROUND, SQUARED), SCENES),
    ("lovasz_softmax", ({"classes": "present"}, {"classes": "all", "per_image": True}), (*SCENES, "one_channel")),
    ("lovasz_hinge", ({}, {"per_image": True}), ("one_channel",)),
    ("tversky", (TVERSKY | PRESENT, {"fp_weight": 0.6, "fn_weight": 0.9} | NO_BACKGROUND), SCENES),
    ("focal_tversky", (TVERSKY | PRESENT | {"gamma": 3.0}, TVERSKY | IMAGE | {"gamma": 0.75}), SCENES),
    ("sensitivity_specificity", ({"r": 0.2} | PRESENT, {"r": 0.05} | IMAGE), SCENES),
    ("rmi", (RMI, RMI | {"pool": "avg", "lambda": 0.3}), ("plane", "volume")),
    ("rmi", (RMI | {"pool_size": 2}, RMI | {"pool": "avg", "pool_size": 2}, RMI | {"radius": 3}), ("binary",)),
    ("t_loss", ({"nu": 1.5, "inv_scale": 1.0},), SCENES),
    ("generalized_dice", ({"w_type": "square"}, {"w_type": "simple", "batch": True, "smooth": 0.1}), SCENES),
    ("generalized_dice", ({"w_type": "uniform", "include_background": False},), ("plane", "volume")),
    ("dice_plus_plus", ({"gamma": 2.0} | PRESENT, {"gamma": 3.0} | IMAGE), SCENES),
    ("mcc", ({"classes": "present"}, {"eps": 0.01, "classes": "all", "batch": False}), SCENES),
    ("soft_cldice", ({"iter": 2, "smooth": 1.0}, {"iter": 1, "smooth": 0.5, "classes": "present"}), SCENES),
    ("soft_cldice", ({"iter": 2, "smooth": 1.0, "channel": 2},), ("plane",)),
    ("skeleton_recall", ({"smooth": 1.0, "classes": "present"}, {"smooth": 0.5, "classes": "all"}), SCENES),
    ("blob", ({"smooth": 1e-5}, {"smooth": 1.0}), SCENES),
    ("boundary", ({"idc": [0, 1]}, {"idc": [1], "normalise": True}), SCENES),
    ("boundary", ({"idc": [2], "inner_offset": 0.0},), ("plane", "volume")),
    ("hausdorff_dt", ({"alpha": 1.5, "include_background": True}, {"alpha": 2.0}), SCENES),
    ("hausdorff_er", ({"alpha": 2.0, "erosions": 10, "include_background": True},), SCENES),
    ("log_hausdorff", ({"alpha": 1.5, "include_background": False},), SCENES),
    ("boundary_aware", ({"R": 3, "K": 4, "classes": 3},), ("distances",)),
    ("boundary_aware", ({"R": 2, "K": 3, "classes": 3},), ("distances_3d",)),
    ("active_boundary", (ABL, ABL | {"theta": 1.0, "label_smoothing": 0.0}), SCENES),
    ("inverseform", ({"variant": "edge"},), SCENES),
    ("boundary_dou", ({"smooth": 1e-5, "alpha_max": 0.8, "classes": "all"},), SCENES),
    ("boundary_dou", ({"smooth": 0.1, "alpha_max": -0.5, "classes": "present"},), SCENES),
    ("region_wise", ({"map": "rrw"}, {"map": "boundary"}), SCENES),
    ("combo", ({"alpha": 0.3, "form": "survey multi-class", "class_weights": [1, 2, 4], "smooth": 1.0},), SCENES[:3]),
    ("combo", ({"alpha": 0.3, "beta": 0.7, "smooth": 1.0, "form": "survey"},), ("binary", "one_channel")),
    ("exp_log", (ELL | {"gamma_ce": 0.8}, ELL | {"eps": 0.5, "batch": False, "classes": "present"}), SCENES[:3]),
    ("exp_log", (ELL | {"class_freq": None},), ("binary",)),
    ("unified_focal", (UFL | {"eps": 0.1}, UFL | {"asym": False, "gamma": 0.2, "eps": 0.1}), SCENES),
    ("unified_focal", (UFL | {"classes": "present"},), ("plane", "absent")),
    ("dice_cross_entropy", ({"weight": 0.3} | DICE, {"weight": 0.6} | DICE | SQUARED), SCENES),
    ("dice_cross_entropy", ({"weight": 0.6, "class_weights": [0.5, 0.75, 1.75]} | DICE,), ("plane", "volume")),
    ("dice_focal", ({"weight": 0.3, "gamma": 2.0} | DICE, {"weight": 0.6, "gamma": 0.5} | DICE | SQUARED), SCENES),
    ("dice_focal", ({"weight": 0.6, "gamma": 2.0, "class_weights": [0.5, 0.75, 1.75]} | DICE,), ("plane", "volume")),
    ("dice_topk", ({"weight": 0.4, "k": 25.0} | DICE,), SCENES),
    ("generalized_dice_focal", (GENERALIZED | {"weight": 0.4, "gamma": 2.0},), SCENES),
    ("sigmoid_focal", ({"gamma": 2.0, "alpha": 0.25}, {"gamma": 0.5, "alpha": None}), SCENES),
    ("ldam", ({"max_margin": 0.5, "scale": 1.0} | RARE, {"max_margin": 3.0, "scale": 4.0} | RARE), SCENES[:3]),
    ("balanced_softmax", (RARE,), SCENES[:3]),
    ("log_dice", (PRESENT, IMAGE, NO_BACKGROUND, SQUARED), SCENES),
    ("lovasz_hinge", ({"classes": "all"}, {"classes": "present", "per_image": True}), SCENES),
    ("jdt", ({"label_smoothing": 0.5, "window": 3, "alpha": 1.0, "beta": 1.0, "smooth": 0.1},), SCENES),
    ("jdt", ({"label_smoothing": 0.3, "window": 5, "alpha": 0.5, "beta": 0.7} | NO_BACKGROUND | IMAGE,), SCENES),
    ("ssim", ({"window": 5, "compared": "all"}, {"window": 11, "compared": "structure"}), SCENES),
    ("ssim", ({"window": 5, "compared": "structure", "include_background": True},), ("plane", "volume")),
    ("cbdice", ({"iterations": 2, "smooth": 1.0}, {"iterations": 1, "smooth": 0.5, "classes": "present"}), SCENES),
    ("bce_dice", ({"weight": 0.3} | DICE, {"weight": 0.6} | DICE | SQUARED), (*SCENES, "one_channel")),
    ("bce_dice", ({"weight": 0.3} | DICE | {"include_background": False},), ("plane", "binary")),
    ("marginal_dice_cross_entropy", ({"weight": 0.3} | DICE, {"weight": 0.6} | DICE | SQUARED), SCENES),
    ("marginal_dice_cross_entropy", ({"weight": 0.3, "labelled": [[1, 1, 0], [0, 0, 1]]} | DICE,), ("plane", "absent")),
)

# (loss, number of the parameter set, scene, parameters)
OVER_SCENES = tuple(
    (loss, number, scene, params)
    for row, (loss, sets, scenes) in enumerate(TABLE)
    for number, params in enumerate(sets, start=10 * sum(other == loss for other, _, _ in TABLE[:row]))
    for scene in scenes
)

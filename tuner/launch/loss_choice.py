"""Which losses a proposed study lets compete: for each loss whether it is in, and the measured reason.

What a loss is made for says its paper (`good_for` of its declaration); that a data set is of that kind is measured. It
is no claim that a loss gives better results there: that is what the search, and its confirmation, are for.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from statistics import median

from tuner.launch.data_profile import ClassProfile, DataProfile
from tuner.losses.catalog.registry import LOSSES

TASKS = {
    "regions": ("dice", "areas: organs, cells, lesions, buildings"),
    "structures": ("dice", "thin structures that must stay connected: vessels, membranes, roads"),
    "borders": ("surface_dice", "areas whose outline matters most"),
    "scene": ("iou", "every pixel has a class: streets, land cover"),
}
"""What the masks are for: the metric that the study is ranked by, and what that means in words."""

IMBALANCED, VERY_IMBALANCED = 20.0, 200.0
"""Times that the most frequent class is more frequent than the rarest."""
TINY_SHARE = 0.005
THIN, THIN_WIDTH_SHARE, THIN_WIDTH = 20.0, 0.025, 4.0
"""Squares of its width that make up a thin object, and how wide it is at most, of the image's side or in pixels."""
MANY_OBJECTS, SMALL_SHARE = 4.0, 0.01
"""Objects in a sample, and the share of it that a small one covers."""
MANY_CLASSES = 8
SLOW = 4.0
"""Times the median step that a loss may take."""


@dataclass(frozen=True, slots=True)
class LossChoice:
    """One loss of the catalogue."""

    loss: str
    is_in: bool
    why: str


@dataclass(frozen=True)
class Traits:
    """What of a data set decides about losses."""

    profile: DataProfile
    task: str

    @property
    def imbalanced(self) -> bool:
        """Whether the classes differ much in frequency."""
        return self.profile.imbalance >= IMBALANCED

    @property
    def very_imbalanced(self) -> bool:
        """Whether they differ by orders of magnitude."""
        return self.profile.imbalance >= VERY_IMBALANCED

    @cached_property
    def tiny(self) -> ClassProfile | None:
        """The rarest class, where it covers next to nothing."""
        rarest = self.profile.rarest
        return rarest if rarest is not None and rarest.share < TINY_SHARE else None

    @cached_property
    def thin(self) -> ClassProfile | None:
        """A class whose objects are long and narrow."""
        widest = max(THIN_WIDTH, THIN_WIDTH_SHARE * min(self.profile.size))
        thin = [c for c in self.profile.scored if c.thinness >= THIN and 0 < c.width <= widest]
        return max(thin, key=lambda c: c.thinness, default=None)

    @cached_property
    def many_small(self) -> ClassProfile | None:
        """A class of many small objects."""
        height, width = self.profile.size
        small = [
            c for c in self.profile.scored if c.objects >= MANY_OBJECTS and 0 < c.size <= SMALL_SHARE * height * width
        ]
        blobs = [c for c in small if c is not self.thin and c.thinness < THIN]
        return max(blobs, key=lambda c: c.objects, default=None)

    @property
    def many_classes(self) -> bool:
        """Whether there are many classes that metrics count."""
        return len(self.profile.scored) >= MANY_CLASSES

    def imbalance(self, *, suffices: bool) -> str:
        """The imbalance in words."""
        return f"imbalance {'' if suffices else 'only '}{figures(self.profile.imbalance)}"


def suggested_task(profile: DataProfile) -> str:
    """Return the task that the shapes of a data set suggest."""
    if not profile.background:
        return "scene"
    traits = Traits(profile, "regions")
    return "structures" if traits.thin is not None else "regions"


def figures(value: float) -> str:
    """Write a positive number with three digits at least, without a power of ten."""
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


Answer = tuple[bool, str]


def _always(why: str) -> Callable[[Traits], Answer]:
    return lambda traits: (True, why)


def _never(why: str) -> Callable[[Traits], Answer]:
    return lambda traits: (False, why)


def _imbalanced(made_for: str) -> Callable[[Traits], Answer]:
    return lambda traits: (traits.imbalanced, f"{made_for}; {traits.imbalance(suffices=traits.imbalanced)}")


def _very_imbalanced(made_for: str) -> Callable[[Traits], Answer]:
    return lambda traits: (traits.very_imbalanced, f"{made_for}; {traits.imbalance(suffices=traits.very_imbalanced)}")


def _several_classes(made_for: str) -> Callable[[Traits], Answer]:
    def answer(traits: Traits) -> Answer:
        if len(traits.profile.classes) == 2:
            return False, f"{made_for}; there are two"
        return traits.imbalanced, f"{made_for}; {traits.imbalance(suffices=traits.imbalanced)}"

    return answer


def _two_classes(made_for: str) -> Callable[[Traits], Answer]:
    def answer(traits: Traits) -> Answer:
        count = len(traits.profile.classes)
        if count != 2:
            return False, f"{made_for} of two, by one sigmoid; there are {count}"
        return traits.imbalanced, f"{made_for}; {traits.imbalance(suffices=traits.imbalanced)}"

    return answer


def _thin(made_for: str) -> Callable[[Traits], Answer]:
    def answer(traits: Traits) -> Answer:
        found = traits.thin
        if found is not None:
            return True, f"{made_for}; {found.name} is {found.width:.2g} px wide and long"
        if traits.task == "structures":
            return True, f"{made_for}; asked for (structures)"
        return False, f"{made_for}; no class is thin"

    return answer


def _many_small(traits: Traits) -> Answer:
    found = traits.many_small
    if found is None:
        return False, "for many small objects; there are few, or large ones"
    return True, f"for many small objects; {found.name}: {found.objects:.3g} a sample, of {found.size:.0f} px"


def _tiny_or_borders(made_for: str) -> Callable[[Traits], Answer]:
    def answer(traits: Traits) -> Answer:
        if traits.task == "borders":
            return True, f"{made_for}; asked for (borders)"
        if traits.tiny is not None:
            return True, f"{made_for}; {traits.tiny.name} covers {100 * traits.tiny.share:.2g} %"
        return False, f"{made_for}; no class is tiny"

    return answer


def _borders(made_for: str, *, only_scenes: bool = False) -> Callable[[Traits], Answer]:
    def answer(traits: Traits) -> Answer:
        if only_scenes and traits.task == "borders" and not traits.many_classes:
            return False, f"{made_for}, of scenes with many classes; there are {len(traits.profile.scored)}"
        wanted = traits.task == "borders"
        return wanted, f"{made_for}; {'asked for (borders)' if wanted else 'borders were not asked for'}"

    return answer


def _scene(made_for: str) -> Callable[[Traits], Answer]:
    return lambda traits: (
        traits.task == "scene",
        f"{made_for}; {'every pixel has a class' if traits.task == 'scene' else 'this is none'}",
    )


def _iou(traits: Traits) -> Answer:
    wanted = TASKS[traits.task][0] == "iou"
    return wanted, "overlap as IoU counts it" if wanted else "as dice, which is ranked by"


RULES: Mapping[str, Callable[[Traits], Answer]] = {
    "dice_cross_entropy": _always("what most trainings use; the baseline of the confirmation"),
    "cross_entropy": _always("the plain pixel loss"),
    "dice": _always("overlap itself"),
    "dice_focal": _always("overlap, and the pixels that are still wrong"),
    "tversky": _always("false alarms and misses with a price each"),
    "lovasz_softmax": _always("IoU, continued between masks"),
    "soft_cldice": _thin("for thin, connected structures"),
    "skeleton_recall": _thin("for thin, connected structures"),
    "blob": _many_small,
    "boundary": _tiny_or_borders("for tiny objects and outlines"),
    "focal": _imbalanced("for rare classes"),
    "focal_tversky": _imbalanced("for rare classes"),
    "unified_focal": _imbalanced("for rare classes"),
    "topk": _always("only the pixels that are hardest"),
    "jaccard": _iou,
    "ohem_ce": _scene("for scenes, hard pixels"),
    "region_mutual_information": _scene("for scenes, neighbouring pixels"),
    "boundary_dou": _borders("for outlines"),
    "log_hausdorff": _borders("for outlines"),
    "hausdorff": _borders("for outlines"),
    "generalized_dice": _several_classes("for classes of very different size"),
    "combo": _imbalanced("for rare classes"),
    "exponential_logarithmic": _very_imbalanced("for very rare classes"),
    "logit_adjusted_ce": _very_imbalanced("for very rare classes"),
    "generalized_dice_focal": _several_classes("for classes of very different size"),
    "mcc": _very_imbalanced("for very rare classes"),
    "distance_map_ce": _borders("for outlines"),
    "region_wise": _borders("for outlines"),
    "active_boundary": _borders("for outlines", only_scenes=True),
    "conditional_boundary": _borders("for outlines", only_scenes=True),
    "inverse_form": _borders("for outlines", only_scenes=True),
    "boundary_aware": _borders("for outlines", only_scenes=True),
    "sensitivity_specificity": _never("two error rates by one number; tversky weighs them too"),
    "log_cosh_dice": _never("dice with another gradient"),
    "dice_plus_plus": _never("dice that forgives small doubts"),
    "dice_topk": _never("dice_focal and topk are near it"),
    "poly1": _never("cross_entropy with one more term"),
    "lovasz_hinge": _never("lovasz_softmax on logits instead of probabilities"),
    "log_dice": _very_imbalanced("for very rare classes"),
    "cbdice": _thin("for thin structures of different width"),
    "ssim": _borders("for outlines"),
    "jdt": _borders("for outlines that nobody draws exactly"),
    "sigmoid_focal": _two_classes("for rare classes"),
    "ldam": _several_classes("for rare classes among several"),
    "balanced_softmax": _never("logit_adjusted_ce by another name"),
    "bce_dice": _never("dice_cross_entropy with a sigmoid for each class"),
    "marginal_dice_cross_entropy": _never("for images in which classes were left unlabelled, which no mask tells"),
    "nacl": _never("for calibrated probabilities, which no metric here counts"),
    "robust_t": _never("for labels that are often wrong"),
    "generalized_wasserstein_dice": _never("for classes that resemble each other"),
}
"""By priority, within each of: what every study has, what the data or the task speaks for, what suits any data."""
ALWAYS_FIRST = ("dice_cross_entropy", "cross_entropy", "dice")
SUIT_ANY = ("dice_focal", "tversky", "lovasz_softmax", "topk")
"""Where the time is for a few losses, these make room for those that the data speaks for."""


def choose_losses(
    profile: DataProfile, task: str, *, most: int, steps: Mapping[str, float] | None = None
) -> list[LossChoice]:
    """Decide about every loss of the catalogue.

    Args:
        profile: The data set.
        task: A key of `TASKS`.
        most: How many the time is for.
        steps: Measured seconds of a step, of some losses.

    Returns:
        First those that are in, by priority.
    """
    traits = Traits(profile, task)
    times = dict(steps or {})
    typical = median(times.values()) if times else 0.0
    names = [*(name for name in RULES if name in LOSSES), *(name for name in LOSSES if name not in RULES)]
    answers = {
        name: RULES[name](traits) if name in RULES else (False, "nothing measured speaks for it") for name in names
    }
    chosen: list[LossChoice] = []
    left: list[LossChoice] = []
    for name in sorted(names, key=_rank_of):
        is_in, why = answers[name]
        if is_in and name in times and times[name] > SLOW * typical:
            is_in, why = False, f"{why}; its step takes {times[name] / typical:.2g} times the median"
        elif is_in and len(chosen) >= most:
            is_in, why = False, f"{why}; no time for more than {most}"
        (chosen if is_in else left).append(LossChoice(name, is_in, why))
    return chosen + left


def _rank_of(name: str) -> int:
    """Return 0 for what every study has, 1 for what the data or the task speaks for, 2 for what suits any data."""
    return 0 if name in ALWAYS_FIRST else 2 if name in SUIT_ANY else 1

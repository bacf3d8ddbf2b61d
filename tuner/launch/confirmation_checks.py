"""Whether the data that a confirmation is judged on is here, before anything of it is stored."""

from tuner.data.preparation import check_same_data, open_source, prepare
from tuner.data.source import Grouped
from tuner.data.splits import choose_cases
from tuner.errors import DataError
from tuner.launch.confirmation import Wish
from tuner.settings import Settings


def check_confirmation_data(wish: Wish, settings: Settings) -> None:
    """Look whether the data is what the search was trained on, can be divided, and has the cases to judge on.

    Raises:
        DataError: Files are missing or broken, there are too few cases for the folds, or no test cases.
        ConflictError: The data is not what the study began with.
    """
    spec, section = wish.spec, wish.section
    if not spec.base.has_data:
        return
    data = prepare(spec.base.dataset, data_root=settings.data_root, cache=settings.cache, seed=spec.seed)
    stored = wish.record.resources.get("fingerprint")
    where = str(settings.data_root or settings.cache)
    check_same_data(data.name, wish.name, found=data.fingerprint, stored=stored, where=where)
    _, _, source = open_source(spec.base.dataset, settings.data_root)
    if section.on == "test" and not source.test:
        raise DataError(
            f"{data.name} has no test cases to judge on.",
            hint="Judge on the validation, or on folds: --folds 5.",
            where="--on",
        )
    if section.on == "test" and data.validation_protocol == "test":
        raise DataError(
            f"the search of {wish.name!r} was validated on the test cases: they have chosen the finalists.",
            hint="Judge on the validation: claims are about new trainings then.",
            where="--on",
        )
    if section.folds is not None:
        choose_cases(
            {"folds": section.folds, "fold": 0},
            training=source.training,
            test=source.test,
            seed=wish.plan.first_seed,
            dataset=data.name,
            group=source.group if isinstance(source, Grouped) else str,
        )

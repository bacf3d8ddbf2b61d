"""The declarations: each leads to its formula, and says what the formula takes."""

import ast
import importlib
import inspect
import subprocess
import sys

import pytest

from tuner.losses.catalog import formulas
from tuner.losses.catalog.options import BASES
from tuner.losses.catalog.registry import FAMILIES, LOSSES
from tuner.losses.spec import LossSpec
from tuner.registry import load

SURVEY_NAMES = {
    "pixel": {"cross_entropy", "topk", "focal", "distance_map_ce"},
    "region": {
        "dice",
        "log_cosh_dice",
        "generalized_wasserstein_dice",
        "jaccard",
        "lovasz_softmax",
        "tversky",
        "focal_tversky",
        "sensitivity_specificity",
        "region_mutual_information",
        "robust_t",
    },
    "boundary": {
        "boundary",
        "hausdorff",
        "boundary_aware",
        "active_boundary",
        "inverse_form",
        "conditional_boundary",
        "boundary_dou",
        "region_wise",
    },
    "combination": {"combo", "exponential_logarithmic", "unified_focal"},
}


def test_options_are_the_functions_keywords(entry: LossSpec) -> None:
    """A declaration that names an option its function does not take fails in the first trial instead of here."""
    parameters = inspect.signature(load(entry.fn).formula).parameters
    keywords = {name for name, p in parameters.items() if p.kind is inspect.Parameter.KEYWORD_ONLY}

    learned = set(inspect.signature(load(entry.state)).parameters) - {"classes"} if entry.state else set()
    assert learned == set(entry.state_options)
    assert (keywords - {"moment", "state"}) | learned == {o.name for o in entry.own_options} | set(entry.needs)


def test_a_declaration_and_its_formula_mirror_each_other(entry: LossSpec) -> None:
    """Whoever knows the name of a loss, or its family, knows both files without asking."""
    family = "compound" if entry.family == "combination" else entry.family
    declared = importlib.import_module(f"tuner.losses.catalog.{family}")
    module, _, function = str(entry.fn).partition(":")

    assert entry in getattr(declared, family.upper())
    assert function == entry.name
    assert load(entry.fn) is getattr(importlib.import_module(module), entry.name)
    assert f"fn=formulas.{module.rpartition('.')[2]}.{function}," in inspect.getsource(declared)


def test_what_a_declaration_names_is_seen_by_tools_and_not_imported() -> None:
    """`formulas` lists for editors and mypy exactly the modules that can be named at run time."""
    tree = ast.parse(inspect.getsource(formulas))
    (seen,) = (node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module == "tuner.losses")

    assert {alias.name for alias in seen.names} == set(formulas.__all__)
    assert {str(entry.fn).split(":")[0].rpartition(".")[2] for entry in LOSSES.values()} == set(formulas.__all__)
    assert formulas.pixel.poly1 == "tuner.losses.pixel:poly1"
    with pytest.raises(AttributeError, match=r"formulas\.py"):
        _ = formulas.pixels  # type: ignore[attr-defined]


def test_functions_bring_no_defaults_for_options(entry: LossSpec) -> None:
    """Defaults stand in the declaration only; two places would drift apart."""
    parameters = inspect.signature(load(entry.fn).formula).parameters

    for option in entry.own_options:
        if option.name in parameters:
            assert parameters[option.name].default is inspect.Parameter.empty, option.name


def test_defaults_and_searched_values_are_legal(entry: LossSpec) -> None:
    """A range that is searched by default must not propose what the loss refuses."""
    for option in entry.options:
        values = [option.default]
        if option.search is not None:
            values += list(option.search.choices or (option.search.low, option.search.high))
        assert [option.problem(value) for value in values] == [None] * len(values), option.name


def test_declarations_are_complete(entry: LossSpec) -> None:
    """`tuner losses NAME` shows every one of these."""
    assert entry.family in FAMILIES
    for text in (entry.paper, entry.formula, entry.summary, entry.good_for, entry.bad_for):
        assert text.strip()
    assert set(entry.mixing_options) <= {option.name for option in entry.options}
    assert inspect.getdoc(load(entry.fn))


@pytest.mark.parametrize("family", sorted(SURVEY_NAMES), ids=str)
def test_survey_taxonomy(family: str) -> None:
    """Families are the survey's, so that its table can be read beside ours."""
    ours = {entry.name for entry in LOSSES.values() if entry.survey and entry.family == family}

    assert ours <= SURVEY_NAMES[family]


def test_later_losses_say_whose_code_they_are(entry: LossSpec) -> None:
    """MONAI's where it is right, ours where it is not: the docstring says which and why."""
    assert entry.survey or "MONAI" in (inspect.getdoc(load(entry.fn)) or "")


def test_catalogue_imports_no_torch() -> None:
    """The command line and the service list losses without three seconds of torch."""
    imported = "import sys, tuner.losses.catalog.registry;"
    code = f"{imported} sys.exit(any(m in sys.modules for m in ('torch', 'monai', 'numpy')))"

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_bases_are_losses_that_stand_alone() -> None:
    """A base that itself needs a base would never end."""
    assert [name for name in BASES if not LOSSES[name].standalone or "base" in LOSSES[name].mixing_options] == []

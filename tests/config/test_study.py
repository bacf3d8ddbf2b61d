"""Study files: what is understood, and how what is wrong is refused."""

import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tuner.config.study import StudySpec, find_study_file, load_spec, parse_duration, shipped_studies
from tuner.config.yaml_reader import YamlDocument, dump_yaml, parse_yaml, read_yaml
from tuner.errors import Problem, Problems, SpecError, TunerError, UnknownNameError
from tuner.losses.catalog.registry import LOSSES
from tuner.registry import defaults

ORGANS = """
name: organs
dataset: {name: phantom, size: 64, validation: 0.2}
model: {name: unet, width: 16}
train: {epochs: 60, batch_size: 16, lr: 3.0e-4}
search:
  loss: [dice, focal, topk, dice_cross_entropy, {edgy: [dice, focal]}]
  loss.focal.gamma: {low: 0.5, high: 4}
  loss.topk.k: 10
  train.lr: {low: 1e-5, high: 1e-2, log: true}
  train.batch_size: [8, 16, 32]
  train.seed: [0, 1, 2]
budget: {trials: 30, timeout: 24h, trial_timeout: 2h}
"""


def spec_of(text: str, *overrides: str, **values: Any) -> StudySpec:
    return load_spec(parse_yaml(text, source="organs.yaml"), overrides, values)


def problems_of(text: str, *overrides: str) -> str:
    with pytest.raises(SpecError) as refused:
        spec_of(text, *overrides)
    return str(refused.value)


def test_a_study_file_becomes_a_conditional_space() -> None:
    """Which loss, and each loss's own options under it, is the product's one idea."""
    space = spec_of(ORGANS).space

    loss, gamma, lr = space.find("loss"), space.find("loss.focal.gamma"), space.find("train.lr")
    assert loss is not None
    assert loss.choices == ("dice", "focal", "topk", "dice_cross_entropy", "edgy")
    assert gamma is not None
    assert (gamma.low, gamma.high, gamma.when) == (0.5, 4.0, ("loss", "focal"))
    assert lr is not None
    assert (lr.low, lr.high, lr.log, lr.when) == (1e-5, 1e-2, True, None)
    assert space.find("loss.topk.k") is None
    assert space.find("loss.edgy.weight.focal") is not None
    assert space.find("loss.edgy.focal.gamma") is not None


def test_every_loss_brings_its_published_ranges_and_they_can_be_switched_off() -> None:
    """`search.options: default` is the survey's own comparison: every loss as published."""
    searched = spec_of("dataset: phantom\nsearch: {loss: [focal, dice]}").space
    default = spec_of("dataset: phantom\nsearch: {loss: [focal, dice], options: default}").space

    assert searched.find("loss.focal.gamma") is not None
    assert [d.name for d in default] == ["loss"]


def test_a_family_and_all_stand_for_their_losses() -> None:
    """A user asks for `pixel`, not for a list that changes with each version."""
    pixel = spec_of("dataset: phantom\nsearch: {loss: [pixel, dice]}")
    every = spec_of("dataset: phantom\nsearch: {loss: all}")

    own = {name: entry for name, entry in LOSSES.items() if not entry.same_as}  # an alias competes where it is named
    assert {c.name for c in pixel.candidates} == {n for n, e in own.items() if e.family == "pixel"} | {"dice"}
    assert {c.name for c in every.candidates} == set(own)


def test_a_trial_configuration_is_complete_and_spelt_like_its_parameters() -> None:
    """One spelling from YAML to axis: the configuration's path is the parameter's name."""
    spec = spec_of(ORGANS)
    params = {"loss": "focal", "loss.focal.gamma": 1.5, "train.lr": 1e-3, "train.batch_size": 8, "train.seed": 2}

    config = spec.config(params)

    assert config.loss["focal"] == {**defaults(LOSSES["focal"]), "gamma": 1.5}
    assert config.train.batch_size == 8
    assert config.train.seed == 2
    assert {k: v for k, v in config.parameters().items() if k in params} == params


def test_a_sum_of_the_users_own_weighs_its_further_terms() -> None:
    """The first term has weight 1; every further one is a parameter."""
    spec = spec_of(ORGANS)

    config = spec.config({"loss": "edgy", "loss.edgy.weight.focal": 0.3, "loss.edgy.focal.gamma": 2.5})

    assert config.loss["terms"] == ["dice", "focal"]
    assert config.loss["edgy"]["weight"] == {"focal": 0.3}
    assert config.loss["edgy"]["focal"]["gamma"] == 2.5


def test_the_stored_form_gives_the_same_study_again() -> None:
    """`resume` has nothing but what is stored."""
    spec = spec_of(ORGANS)

    again = load_spec(YamlDocument(spec.as_dict(), {}, None))
    through_text = load_spec(parse_yaml(dump_yaml(spec.as_dict())))

    assert again == spec
    assert through_text == spec


def test_setting_a_searched_key_fixes_it() -> None:
    """`--set train.lr=0.001` takes the key out of the search; `search.` and the rest searches one."""
    spec = spec_of(ORGANS, "train.lr=1e-3", "search.train.weight_decay={low: 1e-6, high: 1e-2, log: true}")

    assert spec.space.find("train.lr") is None
    assert spec.base.train.lr == 1e-3
    assert spec.space.find("train.weight_decay") is not None


def test_setting_the_loss_lets_it_compete_alone() -> None:
    """One loss, its options still searched, those of the others gone."""
    spec = spec_of(ORGANS, "loss=focal")

    assert [c.name for c in spec.candidates] == ["focal"]
    assert spec.space.find("loss.focal.gamma") is not None
    assert not [d for d in spec.space if d.name.startswith("loss.edgy")]


def test_setting_an_option_of_a_competing_loss_fixes_it() -> None:
    """The option keeps its one name on the command line as well."""
    spec = spec_of(ORGANS, "loss.focal.gamma=3")

    assert spec.space.find("loss.focal.gamma") is None
    assert spec.config({"loss": "focal"}).loss["focal"]["gamma"] == 3.0


def test_the_queue_begins_with_published_defaults_for_at_most_a_third() -> None:
    """The search starts at known good points and is told which losses got none."""
    spec = spec_of(ORGANS, "budget.trials=9")

    queue = spec.queue()

    assert len(queue) == 9
    assert len([point for point in queue if point]) == 3
    assert all("loss" in point for point in queue if point)
    left, needed = spec.left_out()
    assert len(left) == 2
    assert needed == 15


def test_hours_per_loss_queue_the_published_defaults() -> None:
    """One trial of each loss; the numbers of trials beside it are the most there may be."""
    spec = spec_of(ORGANS, "budget={hours_per_loss: 2}")

    assert [set(point) >= {"loss"} for point in spec.queue()] == [True] * len(spec.candidates)
    assert (spec.total, spec.left_out()[0]) == (1_000_000, ())
    capped = spec_of(ORGANS, "budget={hours_per_loss: 2, trials: 2}")
    assert (len(capped.queue()), capped.total, len(capped.left_out()[0])) == (2, 2, len(spec.candidates) - 2)
    assert load_spec(YamlDocument(capped.as_dict(), {}, None)).budget == capped.budget
    with pytest.raises(SpecError, match="'2h' is not a number of hours"):
        spec_of(ORGANS, "budget={hours_per_loss: 2h}")


def test_trials_per_loss_gives_each_loss_its_share() -> None:
    """A fair comparison gives every loss the same budget."""
    spec = spec_of(ORGANS, "budget={trials_per_loss: 4}")

    losses = [point["loss"] for point in spec.queue()]

    assert len(losses) == 20
    assert {losses.count(c.name) for c in spec.candidates} == {4}


@pytest.mark.parametrize(
    ("override", "fragments"),
    [
        pytest.param("search.loss=[dise]", ["search.loss", "'dise'", "Did you mean 'dice'"], id="unknown loss"),
        pytest.param("dataset=synaps", ["dataset.name", "'synaps'", "Did you mean 'synapse'"], id="unknown dataset"),
        pytest.param("model.name=unett", ["model.name", "Did you mean 'unet'"], id="unknown model"),
        pytest.param("objectives=[{metric: dise}]", ["objectives[0].metric", "'dise'", "'dice'"], id="unknown metric"),
        pytest.param("search.loss.focal.gama={low: 1, high: 2}", ["gama", "loss.focal.gamma"], id="unknown option"),
        pytest.param(
            "search.loss.focal.gamma={low: 4, high: 1}", ["loss.focal.gamma", "upside down"], id="upside down"
        ),
        pytest.param(
            "search.loss.focal.gamma={low: 0, high: 1000}", ["loss.focal.gamma.high", "1000", "limit"], id="beyond"
        ),
        pytest.param("search.train.lr={low: 0, high: 1, log: true}", ["train.lr"], id="log from zero"),
        pytest.param("train.epochs=0", ["train.epochs", "0"], id="no epochs"),
        pytest.param("train.epochs=many", ["train.epochs", "'many'"], id="text for a number"),
        pytest.param("train.optimiser=sgd", ["train.optimiser", "Did you mean 'optimizer'"], id="unknown key"),
        pytest.param("sampler=tpee", ["sampler.name", "Did you mean 'tpe'"], id="unknown sampler"),
        pytest.param(
            "pruner={name: median, min_epoch: 3}", ["pruner.min_epoch", "min_epochs"], id="unknown pruner option"
        ),
        pytest.param("budget.timeout=soon", ["budget.timeout", "'soon'", "2h"], id="no duration"),
        pytest.param("dataset.validation=1.5", ["dataset.validation", "1.5"], id="share above one"),
        pytest.param("name=a b", ["name", "'a b'"], id="bad name"),
        pytest.param("seed=-1", ["seed", "-1"], id="negative seed"),
        pytest.param("search.dataset.validation=[0.1, 0.2]", ["dataset.validation", "compared"], id="searched split"),
        pytest.param(
            "search.loss=[dice, {dice: [dice, focal]}]", ["search.loss.dice", "name of its own"], id="sum called dice"
        ),
        pytest.param("search.loss=[{edgy: [dice]}]", ["search.loss.edgy", "two or more"], id="sum of one"),
        pytest.param("search.loss.tversky.alpha=0.2", ["tversky", "does not compete"], id="option of an absent loss"),
    ],
)
def test_what_is_wrong_is_named_with_its_path_value_and_the_right_spelling(override: str, fragments: list[str]) -> None:
    """A refusal tells the dotted path, what was found and what would be right."""
    message = problems_of(ORGANS, override)

    for fragment in fragments:
        assert fragment in message


def test_all_problems_are_listed_at_once_with_their_lines() -> None:
    """A person mends a file once, not once per problem."""
    text = "dataset: {name: phantom, sise: 3}\ntrain: {epochs: -1}\nbugdet: {trials: 3}\n"

    message = problems_of(text)

    assert "3 problems" in message
    assert "dataset.sise" in message
    assert "train.epochs" in message
    assert "bugdet" in message
    assert "line 3" in message


@pytest.mark.parametrize(
    ("text", "fragment"),
    [
        pytest.param("dataset: phantom\ndataset: synapse\n", "stands twice", id="key twice"),
        pytest.param("dataset: [phantom\n", "not valid YAML", id="not YAML"),
        pytest.param("a: &x [1]\nb: *x\n", "aliases", id="aliases"),
        pytest.param("- 1\n", "mapping", id="a list"),
        pytest.param("model: unet\n", "dataset: missing", id="no dataset"),
        pytest.param("x: !!python/object/apply:os.system ['true']\n", "YAML", id="code"),
    ],
)
def test_files_that_are_no_study_are_refused_with_their_place(text: str, fragment: str) -> None:
    """Nothing in a file is executed, and nothing is guessed."""
    with pytest.raises(TunerError) as refused:
        spec_of(text)

    assert fragment in str(refused.value)
    assert "organs.yaml" in str(refused.value)


def test_a_missing_file_is_said_to_be_missing(tmp_path: Path) -> None:
    """The commonest mistake of all."""
    with pytest.raises(TunerError, match=r"nothing\.yaml"):
        read_yaml(tmp_path / "nothing.yaml")


@pytest.mark.parametrize("name", shipped_studies())
def test_every_shipped_study_file_is_valid(name: str) -> None:
    """`studies/*.yaml` is what a newcomer starts with."""
    spec = load_spec(find_study_file(name))

    assert spec.name == name
    assert spec.space.find("loss") is not None
    if spec.search.raw.get("options") != "default":
        assert spec.space.find("train.lr") is not None
        assert spec.space.find("train.weight_decay") is not None


def test_one_loss_that_is_called_like_its_family_can_compete_alone() -> None:
    """`boundary` is a family of the survey, and a loss in it."""
    family, alone = (
        spec_of(ORGANS.replace("[dice, focal, topk", f"[{name}, focal, topk")) for name in ("boundary", "loss.boundary")
    )

    assert len(family.candidates) > 5
    assert [c.name for c in alone.candidates][:2] == ["boundary", "focal"]
    assert load_spec(YamlDocument(alone.as_dict(), {}, None)).candidates == alone.candidates


@pytest.mark.parametrize("dataset", ["synapse", "cityscapes"])
def test_the_survey_is_rerun_evenly(dataset: str) -> None:
    """Every one of its 25 losses as published, with both networks and three seeds; then tuned with equal budgets."""
    published, tuned = (load_spec(find_study_file(f"survey-{dataset}{end}")) for end in ("", "-tuned"))
    queue = published.queue()
    survey = {name for name, entry in LOSSES.items() if entry.survey}

    assert len(survey) == 25
    assert {(p["loss"], p["model.name"], p["train.seed"]) for p in queue} == {
        (loss, model, seed) for loss in survey for model in ("unet", "transunet") for seed in (0, 1, 2)
    }
    assert len(queue) == 150
    assert {set(p) == {"loss", "model.name", "train.seed"} for p in queue} == {True}
    assert Counter(p["loss"] for p in tuned.queue()) == dict.fromkeys(survey, 20)


def test_an_unknown_dataset_on_the_command_line_names_the_closest() -> None:
    """`--dataset synaps` is one letter away."""
    with pytest.raises(UnknownNameError, match="synapse"):
        find_study_file("synaps")


def test_a_problem_is_a_record_with_the_line_of_its_key() -> None:
    """Of a key that does not stand in the file, the line of the nearest one above it."""
    text = "dataset: phantom\ntrain:\n  epochs: 0\nsearch:\n  loss: [dise]\n  train.lr:\n    low: 99\n    high: 3\n"

    with pytest.raises(SpecError) as refused:
        spec_of(text, "sampler.startup=3")

    epochs, loss, low, sampler = sorted(refused.value.problems, key=lambda problem: problem.line or 99)
    assert (epochs.path, epochs.value, epochs.line) == ("train.epochs", 0, 3)
    assert loss.message == "unknown loss 'dise'."
    assert (loss.hint or "").count(" boundary,") == 1, "a loss and a family of one name are one word to write"
    assert (loss.path, loss.value, loss.line) == ("search.loss", "dise", 5)
    assert str(loss.hint).startswith("Did you mean 'dice'? Known: ")
    assert (low.path, low.value, low.line) == ("search.train.lr.low", 99, 7)
    assert (sampler.path, sampler.line) == ("sampler.startup", None)
    assert str(epochs) == "train.epochs: 0 is below the limit 1 (1 to 100000) (line 3)"
    assert Problem("x", "is missing").below("params") == Problem("params.x", "is missing")


@pytest.mark.parametrize(
    ("given", "expected"),
    [(90, 90.0), ("90s", 90.0), ("30m", 1800.0), ("2h", 7200.0), ("1d12h", 129600.0), ("1h30m", 5400.0)],
)
def test_durations(given: object, expected: float) -> None:
    """People write 2h, machines write 7200."""
    problems = Problems()

    assert parse_duration(given, "budget.timeout", problems) == expected
    assert problems == []


def test_a_grid_is_enumerated_once_and_sets_the_budget() -> None:
    """The survey's comparison: every loss as published, on every seed, each combination exactly once."""
    text = (
        "dataset: phantom\nsampler: grid\nsearch: {loss: [dice, focal, topk], options: default, train.seed: [0, 1, 2]}"
    )

    queue = spec_of(text).queue()

    assert len(queue) == 9
    assert len({tuple(sorted(point.items())) for point in queue}) == 9
    assert [point["loss"] for point in queue[:3]] == ["focal", "dice", "topk"]
    assert "complete after 9" in problems_of(text, "budget.trials=10")
    assert "steps: N" in problems_of(text, "search.train.lr={low: 1e-4, high: 1e-2}")


def test_the_defaults_of_the_queue_take_the_files_own_values() -> None:
    """The published default of a loss is tried at the file's own learning rate, where no sampler knows more."""
    for sampler in ("sampler.name=tpe", "sampler={name: auto, prior: false}"):
        (point, *_) = spec_of(ORGANS, sampler).queue()
        assert point["train.lr"] == 3e-4
        assert point["train.batch_size"] == 16


def test_the_default_sampler_chooses_the_learning_rate_of_the_defaults() -> None:
    """It knows of other data what the learning rate does; options of losses and all else stay as they are."""
    (point, *_) = spec_of(ORGANS, "sampler.name=auto").queue()

    assert "train.lr" not in point
    assert point["train.batch_size"] == 16
    assert point["loss"] in {c.name for c in spec_of(ORGANS).candidates}
    assert spec_of("dataset: phantom\nloss: dice\nsearch: {train.lr: {low: 1e-4, high: 1e-2}}").queue()[0] != {}


def test_reading_a_study_file_imports_neither_optuna_nor_torch() -> None:
    """The command line and the service read study files; they must not wait for what they do not use."""
    heavy = "('optuna', 'torch', 'monai', 'sqlalchemy')"
    code = f"import sys, tuner.config.study; print([m for m in {heavy} if m in sys.modules])"

    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"


def test_fields_of_a_section_are_checked_and_worded_like_declared_options() -> None:
    """Open ends, choices with the closest one, null where it means something, every problem in one pass."""
    text = (
        "dataset: phantom\n"
        "train: {lr: 0, momentum: 1, schedule: cosin, precision: null, epochs: 2.5, clip_norm: null}\n"
    )

    with pytest.raises(SpecError) as refused:
        spec_of(text)

    assert {problem.path: problem.message for problem in refused.value.problems} == {
        "train.lr": "0 is not above 0 (above 0, at most 10)",
        "train.momentum": "1 is not below 1 (at least 0, below 1)",
        "train.schedule": "'cosin' is not one of cosine, one_cycle, polynomial, constant; did you mean 'cosine'?",
        "train.precision": "null is not a value of 'precision' (one of auto, float32, bfloat16, float16)",
        "train.epochs": "2.5 is not an integer (1 to 100000)",
    }

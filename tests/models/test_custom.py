"""`model: {entry: package.module:function, ...}`: stored and checked without importing it, built by who trains only."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.conftest import REPOSITORY
from tests.models import custom_networks
from tests.models.small import SMALL
from tests.training.samples import make_config, make_data
from tuner.config.study import StudySpec, load_spec
from tuner.config.trial import TrialConfig, load_config
from tuner.config.yaml_reader import YamlDocument
from tuner.errors import DataError, EntryError, SpecError
from tuner.models.build import SegmentationNet, build_model
from tuner.models.features import FeatureTap
from tuner.training.final import train_final
from tuner.training.trainer import train

PLAIN = "tests.models.custom_networks:plain"


def net(maker: Any = custom_networks.plain, **options: Any) -> SegmentationNet:
    config = {"name": "entry", "entry": PLAIN, **options}
    return build_model(config, channels=1, classes=3, spatial_dims=2, maker=maker)


def study(model: Any, **search: Any) -> StudySpec:
    content = {"dataset": {"name": "phantom"}, "model": model, "search": search, "budget": {"trials": 3}}
    return load_spec(YamlDocument(content, {}, None))


def own_config(**model: Any) -> TrialConfig:
    return load_config(make_config(epochs=1).as_dict() | {"model": {"entry": PLAIN} | model})


@pytest.mark.parametrize("shape", ["tensor", "list", "stacked", "mapping"])
def test_all_customary_outputs_are_logits(shape: str) -> None:
    """What deep supervision returns is reduced to the output that is classified."""
    torch.manual_seed(0)
    expected = net().eval()
    model = net(shape=shape).eval()
    model.load_state_dict(expected.state_dict())
    image = torch.randn(2, 1, 9, 12)

    torch.testing.assert_close(model(image), expected(image))


def test_deep_supervision_of_monai_trains_and_has_features() -> None:
    """Its stride is obeyed, and the loss's features are those of the last output."""
    model = net(custom_networks.supervised, width=4)
    tap = FeatureTap(model, classes=3)
    logits = model(torch.randn(2, 1, 21, 18))
    given = tap.take((21, 18))
    again = torch.einsum("cd,bdhw->bchw", given["classifier_weight"], given["features"])

    torch.testing.assert_close(again + given["classifier_bias"].view(1, -1, 1, 1), logits)


def test_logits_of_another_size_are_refused() -> None:
    """Stretching them in silence would score something that nobody wrote."""
    with pytest.raises(
        EntryError, match=r"returned \(2, 3, 4, 6\); it must return logits of shape \(batch, 3, 8, 12\)"
    ):
        net(shape="coarse")(torch.randn(2, 1, 8, 12))


@pytest.mark.parametrize(
    ("maker", "options", "words"),
    [
        pytest.param(custom_networks.broken, {}, "failed: ValueError: no such thing", id="it fails"),
        pytest.param(custom_networks.nothing, {}, "returned int; it must return a torch module", id="no network"),
        pytest.param(custom_networks.plain, {"widht": 3}, "unexpected keyword argument 'widht'", id="unknown option"),
    ],
)
def test_functions_that_make_no_network(maker: Any, options: dict[str, Any], words: str) -> None:
    """Each failure names the function and what it should have done."""
    with pytest.raises(EntryError, match=words):
        net(maker, **options)


def test_nobody_builds_it_by_accident() -> None:
    """The probe of `plan` and the service build networks too, and have no right to import code."""
    with pytest.raises(SpecError, match="made only by a process that trains"):
        net(None)


@pytest.mark.parametrize(
    ("model", "words"),
    [
        pytest.param({"entry": "no colon"}, "not spelt `package.module:function`", id="spelling"),
        pytest.param({"entry": "os:system('x')"}, "not spelt `package.module:function`", id="more than a name"),
        pytest.param({"name": "unet", "entry": PLAIN}, "keep one of the two", id="two models"),
        pytest.param({"entry": PLAIN, "classes": 4}, "comes from the data", id="what the data says"),
        pytest.param({"entry": PLAIN, "not a name": 4}, "cannot be a keyword", id="no keyword"),
        pytest.param({"entry": PLAIN, "a": {"b": 1}}, "neither a number, text", id="nested"),
        pytest.param("entry", "needs a function", id="a bare name"),
    ],
)
def test_sections_that_cannot_be(model: Any, words: str) -> None:
    """Refused when the study is read, not when its first trial starts."""
    with pytest.raises(SpecError, match=words):
        study(model)


def test_a_study_stores_and_searches_its_options() -> None:
    """Any scalar can be searched; of a function of one's own the file says the range."""
    spec = study(
        {"entry": PLAIN, "width": 4},
        **{
            "model.width": {"low": 2, "high": 8},
            "model.rate": {"low": 0.1, "high": 1},
            "model.shape": ["tensor", "list"],
        },
    )
    again = load_spec(YamlDocument(spec.as_dict(), {}, None))
    config = again.config({"model.width": 8, "model.rate": 0.5, "model.shape": "list"})

    assert {d.name: d.kind for d in again.space} == {
        "model.width": "int",
        "model.rate": "float",
        "model.shape": "categorical",
    }
    assert config.model == {"name": "entry", "entry": PLAIN, "width": 8, "rate": 0.5, "shape": "list"}
    assert load_config(config.as_dict()).model == config.model
    with pytest.raises(SpecError, match="names code"):
        study({"entry": PLAIN}, **{"model.entry": [PLAIN]})


def test_reading_a_study_imports_nothing_of_it() -> None:
    """The service and `plan` read study files of people who may not run code there."""
    program = (
        "import sys; from tuner.config.study import load_spec; from tuner.config.yaml_reader import YamlDocument;"
        "load_spec(YamlDocument({'dataset': {'name': 'phantom'}, 'model': {'entry': 'antigravity:fly', 'width': 3}},"
        "{}, None)).config({}); assert 'antigravity' not in sys.modules and 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], cwd=REPOSITORY, check=True)


def test_it_is_trained_where_its_package_is_allowed(tmp_path: Path) -> None:
    """From the file to the scored test: and the artifacts hold its weights."""
    data = make_data(tmp_path / "prepared")
    config = own_config(width=6)
    result = train_final(config, data=data, tests=[], device="cpu", folder=tmp_path / "run", allow_entry=("tests",))

    assert result is not None
    assert load_file(tmp_path / "run" / "best.safetensors")["network.net.first.weight"].shape[0] == 6


@pytest.mark.parametrize("allowed", [(), ("numpy",)], ids=["none", "another"])
def test_it_is_not_imported_where_it_is_not_allowed(allowed: tuple[str, ...], tmp_path: Path) -> None:
    """The owner of the machine decides, not who wrote the study."""
    data = make_data(tmp_path / "prepared")
    with pytest.raises(EntryError, match=r"model.entry: code of the package 'tests' .* TUNER_ALLOW_ENTRY=tests"):
        list(train(own_config(), data=data, device="cpu", folder=tmp_path / "run", stop=bool, allow_entry=allowed))


def test_a_training_begins_with_pretrained_weights(tmp_path: Path) -> None:
    """`model.weights` below the data root; without the file the training is refused."""
    data = make_data(tmp_path / "prepared")
    config = load_config(
        make_config(epochs=1, lr=1e-9).as_dict()
        | {"model": {"name": "unet", "width": 4, "depth": 2, "weights": "w/a.safetensors"}}
    )
    torch.manual_seed(1)
    given = build_model({"name": "unet", "width": 4, "depth": 2}, channels=1, classes=3, spatial_dims=2)
    with pytest.raises(DataError, match=r"no file .*a.safetensors"):
        list(train(config, data=data, device="cpu", folder=tmp_path / "a", stop=bool, data_root=tmp_path))
    (tmp_path / "w").mkdir()
    save_file(given.state_dict(), tmp_path / "w" / "a.safetensors")
    train_final(config, data=data, tests=[], device="cpu", folder=tmp_path / "run", data_root=tmp_path)
    trained = load_file(tmp_path / "run" / "best.safetensors")

    log = (tmp_path / "run" / "log.txt").read_text()

    assert f"a.safetensors: {len(given.state_dict())} of {len(given.state_dict())} tensors taken" in log
    assert config.parameters()["model.weights"] == "w/a.safetensors"
    for name, value in given.named_parameters():
        torch.testing.assert_close(trained[name], value.detach(), rtol=0, atol=1e-6)


def test_without_a_file_the_section_is_what_it_was() -> None:
    """Studies that are stored already must be continued, and their checkpoints be found."""
    assert "weights" not in load_config(make_config().as_dict()).model
    assert "weights" not in load_config(make_config(model={"weights": None}).as_dict()).model


def test_a_stopped_transunet_ends_as_an_unbroken_one(tmp_path: Path) -> None:
    """Dropout in the transformer, standardised weights and resized positions: bit for bit after an interruption."""
    data = make_data(tmp_path / "prepared")
    content = make_config(epochs=2, precision="float32").as_dict()
    config = load_config(content | {"model": {"name": "transunet_tiny", **SMALL["transunet_tiny"]}})
    asked = 0

    def late() -> bool:
        nonlocal asked
        asked += 1
        return asked > 10

    for folder, stops in (("whole", (bool,)), ("broken", (late, bool))):
        for stop in stops:
            list(train(config, data=data, device="cpu", folder=tmp_path / folder, stop=stop))
    whole, broken = (torch.load(tmp_path / f / "last.ckpt", weights_only=True)["model"] for f in ("whole", "broken"))

    assert whole.keys() == broken.keys()
    assert all(torch.equal(value, broken[key]) for key, value in whole.items())

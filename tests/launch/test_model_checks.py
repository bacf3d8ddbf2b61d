"""What a study may train is looked at before its first trial is stored: dimensions, packages, files, code."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from tuner.config.study import StudySpec, load_spec
from tuner.config.yaml_reader import YamlDocument
from tuner.errors import ConfigError, DataError, EntryError, SpecError, TunerError
from tuner.launch.study_setup import check_models, weights_names
from tuner.settings import Settings


def study(model: Any = None, **search: Any) -> StudySpec:
    content = {"dataset": {"name": "phantom"}, "search": search, "budget": {"trials": 3}}
    return load_spec(YamlDocument(content | ({"model": model} if model else {}), {}, None))


def check(spec: StudySpec, root: Path | None = None, *, dims: int = 2, here: bool = True, allow: str = "") -> None:
    check_models(
        spec, Settings.resolve({"TUNER_ALLOW_ENTRY": allow}, data_root=root), spatial_dims=dims, trains_here=here
    )


def test_networks_for_images_do_not_meet_volumes() -> None:
    """Each of those trials would fail; every one that competes is named."""
    spec = study(**{"model.name": ["unet", "transunet", "transunet_tiny", "swin_unetr"]})
    check(spec)
    with pytest.raises(SpecError, match="made for images only") as refused:
        check(spec, dims=3)

    assert len(refused.value.problems) == 2
    check(study("swin_unetr"), dims=3)


def test_files_of_weights_are_looked_for_before_anything_is_stored(tmp_path: Path) -> None:
    """Fixed or searched, for one network or for several."""
    spec = study({"name": "unet", "weights": "a.pt"}, **{"model.weights": ["a.pt", "b.pt"]})
    (tmp_path / "a.pt").touch()
    with pytest.raises(DataError, match=r"no file .*b.pt"):
        check(spec, tmp_path)
    check(spec, tmp_path, here=False)
    (tmp_path / "b.pt").touch()
    check(spec, tmp_path)
    several = study(**{"model.name": ["unet", "resunet"], "model.resunet.weights": "c.pt"})

    assert list(weights_names(several)) == ["c.pt"]
    assert several.config({"model.name": "resunet"}).model["weights"] == "c.pt"
    assert "weights" not in several.config({"model.name": "unet"}).model


@pytest.mark.skipif(find_spec("segmentation_models_pytorch") is not None, reason="the extra smp is installed")
def test_an_extra_that_is_missing_is_named_with_the_line_to_type() -> None:
    """Or its trials fail one after the other; another machine may well have it."""
    with pytest.raises(ConfigError, match=r"'smp' needs .*pip install 'segmentation-tuner\[smp\]'"):
        check(study("smp"))
    check(study("smp"), here=False)


@pytest.mark.parametrize(
    ("allow", "error"), [pytest.param("mine", None, id="allowed"), pytest.param("other", EntryError, id="not allowed")]
)
def test_code_is_refused_where_its_package_is_not_allowed(allow: str, error: type[TunerError] | None) -> None:
    """Said at launch, without importing anything: the package need not even exist."""
    spec = study({"entry": "mine.nets:net", "width": 3})
    if error is None:
        check(spec, allow=allow)
        return
    with pytest.raises(error, match=r"model.entry: .*TUNER_ALLOW_ENTRY=mine"):
        check(spec, allow=allow)

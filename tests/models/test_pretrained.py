"""Weights from files: of ours, of others, of Google's archive; what fits is taken, the rest is said, nothing is run."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from tests.models.small import SMALL
from tuner.errors import DataError
from tuner.models.build import SegmentationNet, build_model
from tuner.models.pretrained import load_pretrained
from tuner.models.transunet import TransUNet
from tuner.models.weights_path import find_weights

TINY = {"name": "transunet_tiny", **SMALL["transunet_tiny"], "stem_units": "2-2-2", "layers": 2}


def net(config: dict[str, Any], *, seed: int, classes: int = 3, channels: int = 1) -> SegmentationNet:
    torch.manual_seed(seed)
    return build_model(config, channels=channels, classes=classes, spatial_dims=2)


def google_archive(path: Path, *, rows: int) -> dict[str, np.ndarray]:
    """Write an archive of the published layout in the size of the tiny build: hidden 16, 2 heads of 8, width 4."""
    rng = np.random.default_rng(0)
    shapes: dict[str, tuple[int, ...]] = {
        "conv_root/kernel": (7, 7, 3, 4),
        "cls": (1, 1, 16),
        "head/kernel": (16, 21843),
    }

    def scaled(name: str, channels: int, *, flat: bool = True) -> None:
        for part in ("scale", "bias"):
            shapes[f"{name}/{part}"] = (channels,) if flat else (1, 1, 1, channels)

    scaled("gn_root", 4, flat=False)
    inside = 4
    for level, outside in enumerate((16, 32, 64), start=1):
        for unit in (1, 2):
            at, narrow = f"block{level}/unit{unit}", outside // 4
            for number, size in (
                (1, (1, 1, inside, narrow)),
                (2, (3, 3, narrow, narrow)),
                (3, (1, 1, narrow, outside)),
            ):
                shapes[f"{at}/conv{number}/kernel"] = size
                scaled(f"{at}/gn{number}", size[3], flat=False)
            if unit == 1:
                shapes[f"{at}/conv_proj/kernel"] = (1, 1, inside, outside)
                scaled(f"{at}/gn_proj", outside, flat=False)
            inside = outside
    shapes |= {"embedding/kernel": (1, 1, 64, 16), "embedding/bias": (16,)}
    shapes["Transformer/posembed_input/pos_embedding"] = (1, rows, 16)
    scaled("Transformer/encoder_norm", 16)
    for number in range(2):
        at = f"Transformer/encoderblock_{number}"
        scaled(f"{at}/LayerNorm_0", 16)
        scaled(f"{at}/LayerNorm_2", 16)
        for name in ("query", "key", "value"):
            shapes[f"{at}/MultiHeadDotProductAttention_1/{name}/kernel"] = (16, 2, 8)
            shapes[f"{at}/MultiHeadDotProductAttention_1/{name}/bias"] = (2, 8)
        shapes[f"{at}/MultiHeadDotProductAttention_1/out/kernel"] = (2, 8, 16)
        shapes[f"{at}/MultiHeadDotProductAttention_1/out/bias"] = (16,)
        shapes |= {f"{at}/MlpBlock_3/Dense_0/kernel": (16, 16), f"{at}/MlpBlock_3/Dense_0/bias": (16,)}
        shapes |= {f"{at}/MlpBlock_3/Dense_1/kernel": (16, 16), f"{at}/MlpBlock_3/Dense_1/bias": (16,)}
    arrays = {name: rng.normal(0, 0.1, shape).astype(np.float32) for name, shape in shapes.items()}
    np.savez(path, **arrays)  # type: ignore[arg-type]
    return arrays


def test_googles_archive_fills_stem_and_transformer(tmp_path: Path) -> None:
    """The published weights of R50+ViT-B/16: all but the decoder comes from them."""
    arrays = google_archive(tmp_path / "R50.npz", rows=1 + 9)
    model = net(TINY, seed=0)
    fit = load_pretrained(model, tmp_path / "R50.npz", name="R50.npz")

    assert all(name.startswith(("decoder.", "classifier.")) for name in fit.missing)
    assert fit.other_shape == ()
    assert set(fit.unused) == {"cls", "head/kernel"}
    assert len(fit.matched) == len(arrays) - 2
    assert f"{len(fit.matched)} of {len(fit.matched) + len(fit.missing)} tensors taken" in fit.text("file")
    assert "2 of the file not used (cls, head/kernel)" in fit.text("file")
    assert model.effective_options()["model.weights"] == "R50.npz"


def test_googles_kernels_compute_what_they_did(tmp_path: Path) -> None:
    """A transposed kernel has the right shape and the wrong network: against the archive's own formulas, in numpy."""
    arrays = google_archive(tmp_path / "R50.npz", rows=1 + 9)
    model = net(TINY, seed=0).eval()
    load_pretrained(model, tmp_path / "R50.npz", name="R50.npz")
    transunet = model.network
    assert isinstance(transunet, TransUNet)
    x = np.random.default_rng(1).normal(size=(1, 5, 16)).astype(np.float32)
    at = "Transformer/encoderblock_1/MultiHeadDotProductAttention_1"
    parts = [
        np.einsum("bnd,dhc->bhnc", x, arrays[f"{at}/{name}/kernel"]) + arrays[f"{at}/{name}/bias"][None, :, None]
        for name in ("query", "key", "value")
    ]
    scores = np.einsum("bhnc,bhmc->bhnm", parts[0], parts[1]) / np.sqrt(8)
    weights = np.exp(scores) / np.exp(scores).sum(-1, keepdims=True)
    mixed = np.einsum("bhnm,bhmc->bnhc", weights, parts[2])
    expected = np.einsum("bnhc,hcd->bnd", mixed, arrays[f"{at}/out/kernel"]) + arrays[f"{at}/out/bias"]
    attention: Any = transunet.blocks[1]
    mlp = x @ arrays["Transformer/encoderblock_0/MlpBlock_3/Dense_0/kernel"]
    embedded = np.einsum("bhwi,io->bohw", np.ones((1, 1, 1, 64)), arrays["embedding/kernel"][0, 0])

    np.testing.assert_allclose(attention.attention(torch.from_numpy(x)).detach(), expected, rtol=1e-4, atol=1e-6)
    block: Any = transunet.blocks[0]
    np.testing.assert_allclose(
        block.mlp[0](torch.from_numpy(x)).detach(),
        mlp + arrays["Transformer/encoderblock_0/MlpBlock_3/Dense_0/bias"],
        rtol=1e-4,
        atol=1e-6,
    )
    np.testing.assert_allclose(
        transunet.embedding(torch.ones(1, 64, 1, 1)).detach(),
        embedded + arrays["embedding/bias"].reshape(1, -1, 1, 1),
        rtol=1e-4,
        atol=1e-6,
    )
    unit: Any = transunet.stem.stages[1]
    np.testing.assert_array_equal(unit[0].conv2.weight[3, 5].detach(), arrays["block2/unit1/conv2/kernel"][:, :, 5, 3])
    np.testing.assert_array_equal(
        transunet.positions.detach(), arrays["Transformer/posembed_input/pos_embedding"][:, 1:]
    )


def test_positions_of_another_grid_are_resized(tmp_path: Path) -> None:
    """Weights of 224 pixels must serve for 512: 5 x 5 patches become 3 x 3."""
    google_archive(tmp_path / "R50.npz", rows=25)
    model = net(TINY, seed=0)
    fit = load_pretrained(model, tmp_path / "R50.npz", name="R50.npz")

    assert "positions" in fit.matched


def test_googles_archive_is_for_transunet(tmp_path: Path) -> None:
    """In any other network not one of its names would be found."""
    google_archive(tmp_path / "R50.npz", rows=10)
    with pytest.raises(DataError, match="fit `transunet` only"):
        load_pretrained(net({"name": "unet", "width": 4}, seed=0), tmp_path / "R50.npz", name="R50.npz")


@pytest.mark.parametrize("suffix", [".safetensors", ".pt", ".ckpt", ".npz"])
def test_a_trained_network_of_ours_is_taken_whole(suffix: str, tmp_path: Path) -> None:
    """`best.safetensors` and `last.ckpt` of a trial are what people have first."""
    config = {"name": "unet", "width": 4, "depth": 2}
    trained = net(config, seed=1)
    path = tmp_path / f"weights{suffix}"
    state = trained.state_dict()
    if suffix == ".safetensors":
        save_file(state, path)
    elif suffix == ".npz":
        np.savez(path, **{key: value.numpy() for key, value in state.items()})
    else:
        torch.save(state if suffix == ".pt" else {"epoch": 3, "model": state}, path)
    model = net(config, seed=2)
    fit = load_pretrained(model, path, name=path.name)

    assert (fit.missing, fit.other_shape, fit.unused) == ((), (), ())
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())


def test_a_head_of_other_classes_is_left_at_random_and_said(tmp_path: Path) -> None:
    """Weights of five classes are a good start for three."""
    config = {"name": "unet", "width": 4, "depth": 2}
    save_file(net(config, seed=1, classes=5).state_dict(), tmp_path / "five.safetensors")
    model = net(config, seed=2)
    head = model.network.head.weight.clone()  # type: ignore[union-attr, operator]
    fit = load_pretrained(model, tmp_path / "five.safetensors", name="five.safetensors")

    assert fit.other_shape == ("head.weight (5, 4, 1, 1) for (3, 4, 1, 1)", "head.bias (5,) for (3,)")
    assert "2 of another shape, left at random (head.weight (5, 4, 1, 1) for (3, 4, 1, 1)" in fit.text("file")
    assert torch.equal(model.network.head.weight, head)  # type: ignore[union-attr, arg-type]


def test_an_encoder_alone_finds_its_place(tmp_path: Path) -> None:
    """Weights of a backbone come without the decoder, and under names of their own trainer."""
    config = {"name": "flexible_unet", **SMALL["flexible_unet"]}
    encoder: Any = net(config, seed=1).network.net.encoder  # type: ignore[union-attr]
    torch.save({"state_dict": {f"module.{k}": v for k, v in encoder.state_dict().items()}}, tmp_path / "resnet.pth")
    model = net(config, seed=2)
    fit = load_pretrained(model, tmp_path / "resnet.pth", name="resnet.pth")

    assert len(fit.matched) == len(encoder.state_dict())
    assert all(".encoder." not in name for name in fit.missing)
    assert fit.unused == ()


class Harmful:
    """Runs code when it is unpickled by whoever does not take care."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path("harm-done"),))


def test_nothing_of_a_file_is_executed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pickle may hold any program."""
    monkeypatch.chdir(tmp_path)
    torch.save({"model": Harmful()}, "weights.pt")
    np.savez("weights.npz", a=np.array([Harmful()], dtype=object))
    (tmp_path / "plain.pth").write_bytes(pickle.dumps(Harmful(), protocol=2))
    for name in ("weights.pt", "weights.npz", "plain.pth"):
        with pytest.raises(DataError):
            load_pretrained(net({"name": "unet", "width": 4, "depth": 2}, seed=0), tmp_path / name, name=name)

    assert not (tmp_path / "harm-done").exists()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        pytest.param(b"", "cannot be read", id="empty"),
        pytest.param(b"\x80\x02not weights", "weights", id="garbage"),
        pytest.param({"a": 1}, "holds no tensors", id="no tensors"),
        pytest.param({"other": torch.zeros(3)}, "not one tensor fits", id="of something else"),
    ],
)
def test_files_that_are_no_weights(content: Any, words: str, tmp_path: Path) -> None:
    """Beginning at random after all would be found out after the study."""
    path = tmp_path / "file.pt"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save(content, path)
    with pytest.raises(DataError, match=words):
        load_pretrained(net({"name": "unet", "width": 4, "depth": 2}, seed=0), path, name="file.pt")


def test_where_a_file_lies(tmp_path: Path) -> None:
    """Below the data root, as data does, or wherever the whole path says; never out of the root by dots."""
    (tmp_path / "root" / "weights").mkdir(parents=True)
    inside = tmp_path / "root" / "weights" / "a.pt"
    inside.touch()
    (tmp_path / "b.pt").touch()

    assert find_weights("weights/a.pt", tmp_path / "root") == inside
    assert find_weights(str(tmp_path / "b.pt"), None) == tmp_path / "b.pt"
    with pytest.raises(DataError, match="leads out of the data root"):
        find_weights("../b.pt", tmp_path / "root")
    with pytest.raises(DataError, match=r"none is set. Set --data-root"):
        find_weights("b.pt", None)
    with pytest.raises(DataError, match=r"no file .*c.pt. Beside it there are: a.pt. Weights are not downloaded"):
        find_weights("weights/c.pt", tmp_path / "root")
    with pytest.raises(DataError, match=r"is none of .safetensors"):
        find_weights("weights/a.h5", tmp_path / "root")


def test_modules_are_all_counted() -> None:
    """The archive has a place for each parameter of stem and transformer, and they are all of the network but two."""
    transunet = net(TINY, seed=0).network
    parts = {name.partition(".")[0] for name, _ in transunet.named_parameters()}

    assert parts == {"stem", "embedding", "positions", "blocks", "norm", "decoder", "classifier"}
    assert isinstance(transunet, nn.Module)

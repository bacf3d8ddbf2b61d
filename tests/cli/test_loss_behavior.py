"""`tuner losses --probe`: behaviour curves as a table, a document and pictures."""

from pathlib import Path

from PIL import Image

from tests.cli.shell import Shell


def test_a_table_names_every_drift_for_both_objects(tuner: Shell) -> None:
    """Without a picture at hand the numbers are read in the terminal."""
    result = tuner("losses", "dice", "--probe")

    assert result.code == 0
    for word in ("shift", "shrink", "growth", "flipped", "soft", "large", "small"):
        assert word in result.out


def test_json_and_figures_in_one_call(tuner: Shell, tmp_path: Path) -> None:
    """Stdout stays one document; the picture is not empty and uses both colours."""
    result = tuner("losses", "--probe", "dice", "--json", "-o", str(tmp_path / "figures"))

    assert [loss["name"] for loss in result.json()["losses"]] == ["dice"]
    with Image.open(tmp_path / "figures" / "dice.png") as image:
        colours = {colour for _, colour in image.convert("RGB").getcolors(1 << 24)}
    assert {(0, 114, 178), (213, 94, 0)} <= colours


def test_a_folder_without_probe_is_refused(tuner: Shell, tmp_path: Path) -> None:
    """A flag that does nothing would leave the user waiting for files."""
    result = tuner("losses", "dice", "-o", str(tmp_path))

    assert result.code == 2
    assert "--probe" in result.err

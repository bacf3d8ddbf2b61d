"""Small data sets in every layout, with a way to spoil a case of each for every defect that `data check` knows.

Each spoiler touches a case of its own, so that all of them can be had at once.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.data.broken_images import CITY_DEFECTS, FOLDER, FOLDER_DEFECTS, make_cityscapes, make_folder
from tests.data.broken_synapse import SYNAPSE_DEFECTS, make_synapse
from tests.data.broken_volumes import MSD_DEFECTS, NNUNET_DEFECTS, RAW_DEFECTS, make_msd, make_nnunet, make_raw
from tests.data.corruption import Spoil
from tuner.data.catalog import DATASETS
from tuner.data.checks import check, check_download


@dataclass(frozen=True)
class Broken:
    """A layout: how it is made and checked, and each defect with words of its line."""

    make: Callable[[Path], Path]
    check: Callable[[Path], list[str]]
    defects: dict[str, tuple[Spoil, str]]


def _by_name(config: dict[str, Any]) -> Callable[[Path], list[str]]:
    return lambda root: check(config, data_root=root)


LAYOUTS = {
    "synapse": Broken(make_synapse, _by_name({"name": "synapse"}), SYNAPSE_DEFECTS),
    "synapse-raw": Broken(make_raw, lambda root: check_download(DATASETS["synapse"], root), RAW_DEFECTS),
    "cityscapes": Broken(make_cityscapes, _by_name({"name": "cityscapes"}), CITY_DEFECTS),
    "folder": Broken(make_folder, _by_name(FOLDER), FOLDER_DEFECTS),
    "nnunet": Broken(
        make_nnunet, _by_name({"name": "nnunet", "path": "Dataset008_Broken", "group": "{group}_*"}), NNUNET_DEFECTS
    ),
    "msd": Broken(make_msd, _by_name({"name": "msd", "path": "Task98_Broken"}), MSD_DEFECTS),
}

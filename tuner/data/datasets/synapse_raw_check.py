"""Finding every defect of the challenge's download before it is converted."""

from pathlib import Path

from tuner.data.catalogue import ORGANS
from tuner.data.datasets.synapse_convert import look_for_cases
from tuner.data.datasets.synapse_split import OFFICIAL_TEST, RAW_LABELS, RAW_TO_SYNAPSE
from tuner.data.datasets.volume_check import check_volumes
from tuner.data.datasets.volume_set import Recording, VolumeSet
from tuner.data.label_map import ClassCodes
from tuner.data.memory import FileMemory


def check_raw(raw: Path) -> list[str]:
    """Open every image and label of a download and return the defects, a line each.

    Labels are the challenge's ids, 0 to 13; of the classes, background and the eight organs of the benchmark must occur
    in the official training cases and in the official test cases, as far as there are any.

    Raises:
        DataError: There is no folder `img`.
    """
    cases, defects, folder = look_for_cases(raw)
    halves: dict[bool, dict[str, Recording]] = {False: {}, True: {}}
    for case in cases:
        halves[case.name in OFFICIAL_TEST][case.name] = Recording(case.name, (case.image,), case.label)
    codes = ClassCodes(ORGANS, {raw_id: RAW_TO_SYNAPSE.get(raw_id, 0) for raw_id in range(RAW_LABELS)})
    found = VolumeSet(folder, halves[False], halves[True], ("CT",), codes)
    return defects + check_volumes(found, FileMemory(None), channels=1)

"""The data sets that a study can name, their options declared once. Importing this reads no file and no torch."""

from tuner.data.catalog import PICTURES
from tuner.data.entry import DatasetEntry, size_option
from tuner.data.rows_of_volumes import VOLUMES
from tuner.registry import Option, Registry

__all__ = ["DATASETS", "ORGANS", "VALIDATION_FORMS", "VALIDATION_SHARE", "DatasetEntry"]

ORGANS = (
    "background",
    "aorta",
    "gallbladder",
    "left kidney",
    "right kidney",
    "liver",
    "pancreas",
    "spleen",
    "stomach",
)
"""Class names of the Synapse benchmark, by label id."""

VALIDATION_SHARE = 0.2
"""Default of `dataset.validation`: the share of the training cases that validates."""

VALIDATION_FORMS = (
    f"dataset.validation: a share of the cases ({VALIDATION_SHARE}, the default), a list of them, "
    "{folds: 5, fold: 0} (search dataset.validation.fold to repeat over the folds), or test"
)
"""What `dataset.validation` may be, in one line."""


SYNAPSE_LAYOUT = """\
<data root>/synapse/
├── lists_Synapse/
│   ├── train.txt          names of the training slices, one a line: case0005_slice000
│   └── test_vol.txt       names of the test volumes, one a line: case0001
├── train_npz/
│   └── case0005_slice000.npz   arrays `image` [H, W] in 0..1 and `label` [H, W] in 0..8
└── test_vol_h5/
    └── case0001.npy.h5         datasets `image` and `label` [slices, H, W]"""

SYNAPSE_SOURCE = """\
Get TransUNet's preprocessed Synapse data (github.com/Beckschen/TransUNet, "Prepare data"),
or register for the challenge "Multi-Atlas Labeling Beyond the Cranial Vault" (synapse.org, syn3193805),
download its abdomen training images and labels, and convert them: tuner data prepare synapse --raw DIR"""

_SYNAPSE = DatasetEntry(
    name="synapse",
    summary="Abdominal CT, eight organs, TransUNet's preprocessed layout (18 training and 12 test cases).",
    channels=1,
    class_names=ORGANS,
    options=(size_option(224),),
    source="tuner.data.datasets.synapse:open_synapse",
    check="tuner.data.datasets.synapse_check:check_files",
    convert="tuner.data.datasets.synapse_convert:prepare_raw",
    check_raw="tuner.data.datasets.synapse_raw_check:check_raw",
    layout=SYNAPSE_LAYOUT,
    how_to_get=SYNAPSE_SOURCE,
)

_PHANTOM = DatasetEntry(
    name="phantom",
    summary="A procedural abdomen with the eight Synapse organs; needs nothing on disk.",
    channels=1,
    class_names=ORGANS,
    options=(
        size_option(96),
        Option("cases", "int", 12, "Training cases (patients); a third as many test cases exist beside.", 2, 1000),
        Option("slices", "int", 12, "Slices of a case, from the lower poles of the kidneys to the diaphragm.", 1, 512),
        Option("dimensions", "int", 2, "2: every slice is a sample. 3: every case is one volume.", choices=(2, 3)),
        Option("noise", "float", 0.06, "Standard deviation of the noise, on intensities of 0 to 1.", 0.0, 1.0),
        Option("contrast", "float", 1.0, "Differences between soft tissues, relative to a good CT.", 0.0, 2.0),
        Option("bias", "float", 0.08, "Largest relative change of brightness across the image.", 0.0, 1.0),
        Option("anatomy_seed", "int", 0, "Other patients for another number.", 0, 2**31 - 1),
    ),
    source="tuner.data.datasets.phantom:open_phantom",
    check=None,
    convert=None,
    layout="nothing: it is computed",
    how_to_get="nothing to get: it is computed",
)

DATASETS: Registry[DatasetEntry] = Registry("dataset", (_SYNAPSE, _PHANTOM), PICTURES, VOLUMES)

"""Declarations of the data sets and their options. Importing this reads no file and no torch."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tuner.data.label_rules import LABELS, labels_problem, labels_text
from tuner.errors import Problems
from tuner.registry import Option, Registry, Scalar, complete_options, require_options


@dataclass(frozen=True, slots=True)
class DatasetSpec:
    """One data set. Options that all have (`size`) stand in each row, for their defaults differ."""

    name: str
    summary: str
    channels: int | None
    """None where the files decide."""
    class_names: tuple[str, ...]
    """Empty where the files decide."""
    options: tuple[Option, ...]
    source: str
    """`fn(options, data_root) -> Source`"""
    check: str | None
    """`fn(options, data_root, memory) -> list of defects`; None when nothing is on disk."""
    convert: str | None
    """`fn(raw, out, test, progress)`, behind `tuner data prepare`; None when there is nothing to convert."""
    layout: str
    """What has to lie where, below the data root."""
    how_to_get: str
    augment: Mapping[str, Scalar] = field(default_factory=dict)
    """Augmentation options that differ from the defaults for this data set."""
    check_raw: str | None = None
    """`fn(raw) -> list of defects` of the raw download that `convert` reads."""
    background: bool = True
    """Whether class 0 is background, which no metric counts."""
    declares_regions: bool = False
    """Whether its files may say that classes overlap."""


def size_option(default: int) -> Option:
    """Return the option `size` of square images."""
    return Option(
        "size", "int", default, "Height and width in pixels that every image is resized to.", low=16, high=1024
    )


def resize_option(what: str) -> Option:
    """Return the option `resize` of data sets whose images may keep their sizes."""
    return Option(
        "resize", "bool", True, f"false: {what} keep the sizes that they have, and `train.patch` is trained on."
    )


def height_and_width(height: int, width: int | None) -> tuple[Option, ...]:
    """Return the options `size` and `width` of oblong images."""
    return (
        Option("size", "int", height, "Height in pixels that every image is resized to.", low=16, high=4096),
        Option("width", "int", width, "Width in pixels; null: as the height.", low=16, high=4096, nullable=True),
    )


MAX_MEGAPIXELS = 178.95697
"""From so many million pixels Pillow takes a file for a decompression bomb."""

_EXIF = Option(
    "exif",
    "str",
    "apply",
    "Pictures whose EXIF says that they are turned: `apply` reads them as a viewer shows them, `ignore` as stored.",
    choices=("apply", "ignore"),
)
_MEGAPIXELS = Option(
    "max_megapixels",
    "float",
    MAX_MEGAPIXELS,
    "Pictures with more million pixels are refused: a small file can unpack to any size.",
    low=1.0,
    high=100_000.0,
)
_RANGE = (
    Option("low", "float", None, "The value of the images' files that becomes 0. null: 0.", nullable=True),
    Option(
        "high",
        "float",
        None,
        "The value of the images' files that becomes 1, as 4095 of a 12-bit camera. null: white (255, 65535; floats "
        "as they are).",
        nullable=True,
    ),
)

STREET = (
    "road",
    "sidewalk",
    "building",
    "wall",
    "fence",
    "pole",
    "traffic light",
    "traffic sign",
    "vegetation",
    "terrain",
    "sky",
    "person",
    "rider",
    "car",
    "truck",
    "bus",
    "train",
    "motorcycle",
    "bicycle",
)
"""The evaluated classes of Cityscapes, by train id."""

FOLDER_LAYOUT = """\
<data root>/<dataset.path>/
├── images/
│   └── NAME.png      grey, RGB or more bands; PNG, JPEG, TIFF, BMP, WebP, GIF, JPEG 2000, Netpbm; folders below too
├── masks/
│   └── NAME.png      of the same name and size, whatever the ending: grey values, palette indices or RGB colours
├── train.txt         optional: names that train, one a line
├── val.txt           optional: names that are held out: they are test cases (`validation: test` validates on them)
└── test.txt          optional: test cases; val.txt then names further training cases, to be listed in
                      `dataset.validation`. Without lists every image trains, and a share of the cases validates"""

_FOLDER = DatasetSpec(
    name="folder",
    summary="A folder of your own: images and masks of one name, split files or a seeded division by group.",
    channels=None,
    class_names=(),
    options=(
        Option("path", "str", "folder", "The folder, relative to the data root."),
        *height_and_width(256, None),
        resize_option("images"),
        Option(
            "classes",
            "str",
            "",
            "Classes from 0 up: `background, cell` in order of the masks' values, or with their values: "
            "`background=0, cell=255`, `sky=#87ceeb`. Empty: read from the masks.",
        ),
        Option(
            "labels",
            "str",
            "",
            "Which values, colours or ranges are which class, as a mapping: `{background: 0, cell: [1, 2]}`, "
            "`{cell: '>=128'}`, `{road: [128, 64, 128], ignore: '#000000'}`. Empty: as `classes` says.",
        ),
        Option("ignore", "str", "", "Value of pixels that count for nothing: `255`, `#000000`. Empty: none."),
        Option("background", "bool", True, "Whether class 0 is background, which no metric counts."),
        Option(
            "group",
            "str",
            "",
            "Which part of a name is the patient or recording, as in `{group}_slice*`: a group never stands on both "
            "sides. Empty: every image is a case.",
        ),
        Option(
            "channels",
            "int",
            None,
            "1: grey. 3: colour. Another number: images of so many bands. null: as the first training image.",
            low=1,
            high=64,
            nullable=True,
        ),
        Option("image_suffix", "str", "", "What image names end with beside the name they share with their mask."),
        Option("mask_suffix", "str", "", "What mask names end with: `_mask` of NAME_mask.png beside NAME.jpg."),
        _EXIF,
        *_RANGE,
        _MEGAPIXELS,
    ),
    source="tuner.data.datasets.image_folder:open_folder",
    check="tuner.data.datasets.image_folder:check_folder",
    convert=None,
    layout=FOLDER_LAYOUT,
    how_to_get="""\
Your own pictures: put images and masks below the data root and name their folder, as in
dataset: {name: folder, path: nuclei, classes: 'background=0, nucleus=255'}""",
)

CITYSCAPES_LAYOUT = """\
<data root>/<dataset.path>/
├── leftImg8bit/
│   ├── train/CITY/CITY_000000_000019_leftImg8bit.png
│   └── val/CITY/…                                         the test cases
└── gtFine/
    ├── train/CITY/CITY_000000_000019_gtFine_labelIds.png
    └── val/CITY/…"""

_CITYSCAPES = DatasetSpec(
    name="cityscapes",
    summary="Street scenes, 19 classes, the official division: 2975 training images by city, 500 to test on.",
    channels=3,
    class_names=STREET,
    options=(
        Option("path", "str", "cityscapes", "The folder, relative to the data root."),
        *height_and_width(512, 1024),
        resize_option("images"),
        _MEGAPIXELS,
    ),
    source="tuner.data.datasets.cityscapes:open_cityscapes",
    check="tuner.data.datasets.cityscapes:check_cityscapes",
    convert=None,
    layout=CITYSCAPES_LAYOUT,
    how_to_get="""\
Register at cityscapes-dataset.com, download leftImg8bit_trainvaltest.zip and gtFine_trainvaltest.zip,
and unpack both into one folder below the data root""",
    augment={"flip_width": 0.5, "rotation": 5.0},
    background=False,
)

PICTURES: tuple[DatasetSpec, ...] = (
    _CITYSCAPES,
    _FOLDER,
)


_OTHER_KEYS = ("name", "validation", "label_noise", "regions", "regions_class_order")
"""Keys of a section that are no options of its data set."""


def dataset_options(entry: DatasetSpec, config: Mapping[str, Any]) -> dict[str, Scalar]:
    """Return every option of the row, the section's values before the defaults; raises for any that is not legal."""
    given = {name: value for name, value in config.items() if name not in _OTHER_KEYS}
    require_options(entry.options, given, kind=f"option of dataset {entry.name!r}", where="dataset")
    problems = Problems()
    if LABELS in given:
        if problem := labels_problem(given[LABELS]):
            problems.add(f"dataset.{LABELS}", problem, given.pop(LABELS))
        else:
            given[LABELS] = labels_text(given[LABELS])
    chosen = complete_options(entry.options, given, "dataset", problems)
    problems.refuse()
    return chosen


def _options(path: str) -> tuple[Option, ...]:
    return (
        Option("path", "str", path, "The folder that holds dataset.json, relative to the data root."),
        size_option(256),
        Option("dimensions", "int", 2, "2: every slice is a sample. 3: slabs of `depth` slices are.", choices=(2, 3)),
        Option(
            "slices",
            "str",
            "auto",
            "Plane of the slices, whichever way the files' axes run. auto: across the axis of the largest spacing; "
            "whole volumes (3-D with `resize: false`): axial.",
            choices=("auto", "axial", "coronal", "sagittal"),
        ),
        Option("depth", "int", 32, "Slices of a sample with `dimensions: 3`.", low=1, high=512),
        resize_option("slices (2-D) or whole volumes (3-D)"),
        Option(
            "group",
            "str",
            "",
            "Which part of a case's name is the patient, as in `{group}_*`: a patient never stands on both sides. "
            "Empty: every case is a patient.",
        ),
        Option("low", "float", -1000.0, "Lower end of the window that CT is clipped to, in HU.", low=-4096, high=4096),
        Option("high", "float", 1000.0, "Upper end of the window that CT is clipped to, in HU.", low=-4096, high=4096),
    )


NNUNET_LAYOUT = """\
<data root>/<dataset.path>/
├── dataset.json              channel_names, labels (`ignore` counts for nothing; lists of labels are regions,
│                             written back by regions_class_order), file_ending
├── imagesTr/CASE_0000.nii.gz a file a channel; NIfTI, NRRD, MetaImage, TIFF, or pictures such as .png
├── labelsTr/CASE.nii.gz
├── imagesTs/…                optional: test cases, when there are labels for them
└── labelsTs/…"""

_NNUNET = DatasetSpec(
    name="nnunet",
    summary="Any raw data set of nnU-Net v2: its channels, labels, regions, ignore label; slices or slabs of volumes.",
    channels=None,
    class_names=(),
    options=_options("nnunet"),
    source="tuner.data.datasets.nnunet:open_nnunet",
    check="tuner.data.datasets.nnunet:check_nnunet",
    convert=None,
    layout=NNUNET_LAYOUT,
    declares_regions=True,
    how_to_get="""\
Put the folder DatasetNNN_NAME of your nnUNet_raw below the data root and name it, as in
dataset: {name: nnunet, path: Dataset009_Spleen, low: -160, high: 240}""",
)

MSD_LAYOUT = """\
<data root>/<dataset.path>/
├── dataset.json              modality, labels, training: [{image, label}]; held-out pairs in test or validation
├── imagesTr/CASE.nii.gz      channels along the fourth axis
└── labelsTr/CASE.nii.gz"""

_MSD = DatasetSpec(
    name="msd",
    summary="Any task of the Medical Segmentation Decathlon; slices or slabs of volumes.",
    channels=None,
    class_names=(),
    options=_options("msd"),
    source="tuner.data.datasets.nnunet:open_msd",
    check="tuner.data.datasets.nnunet:check_msd",
    convert=None,
    layout=MSD_LAYOUT,
    how_to_get="""\
Download a task from medicaldecathlon.com, unpack it below the data root and name it, as in
dataset: {name: msd, path: Task09_Spleen, low: -160, high: 240}""",
)

VOLUMES = (_NNUNET, _MSD)


__all__ = ["DATASETS", "ORGANS", "VALIDATION_FORMS", "VALIDATION_SHARE", "DatasetSpec"]

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

_SYNAPSE = DatasetSpec(
    name="synapse",
    summary="Abdominal CT, eight organs, TransUNet's preprocessed layout (18 training and 12 test cases).",
    channels=1,
    class_names=ORGANS,
    options=(size_option(224),),
    source="tuner.data.datasets.synapse:open_synapse",
    check="tuner.data.datasets.synapse_check:check_files",
    convert="tuner.data.datasets.synapse_convert:prepare_raw",
    check_raw="tuner.data.datasets.synapse_convert:check_raw",
    layout=SYNAPSE_LAYOUT,
    how_to_get=SYNAPSE_SOURCE,
)

_PHANTOM = DatasetSpec(
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

DATASETS: Registry[DatasetSpec] = Registry("dataset", (_SYNAPSE, _PHANTOM), PICTURES, VOLUMES)

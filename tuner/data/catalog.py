"""Data sets of pictures: folders of the user's own, and Cityscapes."""

from tuner.data.entry import DatasetEntry, height_and_width, resize_option
from tuner.registry import Option

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
│   └── NAME.png      grey or RGB, in any format that Pillow reads; folders below are searched too
├── masks/
│   └── NAME.png      of the same name and size, whatever the ending: grey values, palette indices or RGB colours
├── train.txt         optional: names that train, one a line
├── val.txt           optional: names that are held out: they are test cases (`validation: test` validates on them)
└── test.txt          optional: test cases; val.txt then names further training cases, to be listed in
                      `dataset.validation`. Without lists every image trains, and a share of the cases validates"""

_FOLDER = DatasetEntry(
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
            "1: grey. 3: colour. null: as the first training image.",
            choices=(1, 3),
            nullable=True,
        ),
    ),
    source="tuner.data.datasets.folder:open_folder",
    check="tuner.data.datasets.folder:check_folder",
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

_CITYSCAPES = DatasetEntry(
    name="cityscapes",
    summary="Street scenes, 19 classes, the official division: 2975 training images by city, 500 to test on.",
    channels=3,
    class_names=STREET,
    options=(
        Option("path", "str", "cityscapes", "The folder, relative to the data root."),
        *height_and_width(512, 1024),
        resize_option("images"),
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

PICTURES = (_CITYSCAPES, _FOLDER)

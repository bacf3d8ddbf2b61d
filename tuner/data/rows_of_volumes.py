"""Data sets of volumes in the layouts of nnU-Net and of the Medical Segmentation Decathlon."""

from tuner.data.entry import DatasetEntry, resize_option, size_option
from tuner.registry import Option


def _options(path: str) -> tuple[Option, ...]:
    return (
        Option("path", "str", path, "The folder that holds dataset.json, relative to the data root."),
        size_option(256),
        Option("dimensions", "int", 2, "2: every slice is a sample. 3: slabs of `depth` slices are.", choices=(2, 3)),
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
├── dataset.json              channel_names, labels (`ignore` counts for nothing), file_ending
├── imagesTr/CASE_0000.nii.gz a file a channel; NIfTI, or pictures such as .png
├── labelsTr/CASE.nii.gz
├── imagesTs/…                optional: test cases, when there are labels for them
└── labelsTs/…"""

_NNUNET = DatasetEntry(
    name="nnunet",
    summary="Any raw data set of nnU-Net v2: its channels, labels and ignore label; slices or slabs of volumes.",
    channels=None,
    class_names=(),
    options=_options("nnunet"),
    source="tuner.data.datasets.nnunet:open_nnunet",
    check="tuner.data.datasets.nnunet:check_nnunet",
    convert=None,
    layout=NNUNET_LAYOUT,
    how_to_get="""\
Put the folder DatasetNNN_NAME of your nnUNet_raw below the data root and name it, as in
dataset: {name: nnunet, path: Dataset009_Spleen, low: -160, high: 240}""",
)

MSD_LAYOUT = """\
<data root>/<dataset.path>/
├── dataset.json              modality, labels, training: [{image, label}]
├── imagesTr/CASE.nii.gz      channels along the fourth axis
└── labelsTr/CASE.nii.gz"""

_MSD = DatasetEntry(
    name="msd",
    summary="Any task of the Medical Segmentation Decathlon; slices or slabs of volumes.",
    channels=None,
    class_names=(),
    options=_options("msd"),
    source="tuner.data.datasets.msd:open_msd",
    check="tuner.data.datasets.msd:check_msd",
    convert=None,
    layout=MSD_LAYOUT,
    how_to_get="""\
Download a task from medicaldecathlon.com, unpack it below the data root and name it, as in
dataset: {name: msd, path: Task09_Spleen, low: -160, high: 240}""",
)

VOLUMES = (_NNUNET, _MSD)

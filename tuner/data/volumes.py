"""Volumes (NIfTI, NRRD, MetaImage, TIFF stacks, pictures as one slice), read in one orientation and turned back.

Axes are named by the direction in which they run, as nibabel does: R(ight), A(nterior), S(uperior) and their
opposites L, P, I. A file is turned to the closest of the 48 arrangements of its axes; nothing is resampled.

Arrays are turned to [D, H, W] whose axes run as `axes` says (`tuner.data.volumes`). Lengths are in mm, whatever unit
the file has. Where the head of a file states its place twice the affine is believed (the sform, where there is one),
not `pixdim`. nibabel is imported where a file is opened.
"""

import json
import math
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from tuner.data.images import COLOUR, SUFFIXES, ReadOptions, intensities, read_codes, read_image, read_raster
from tuner.data.itk_files import ITK, Affine, itk_companion, itk_head, itk_values
from tuner.data.raster import ORIENTATIONS
from tuner.data.tiff_stacks import is_stack, spacing_file, stack_shape, stack_spacing, stack_values
from tuner.errors import DataError

PLANES = {"axial": "SAR", "coronal": "ASR", "sagittal": "RSA"}
"""Directions of D, H and W of a volume whose slices lie in a plane; `axial` is nibabel's `as_closest_canonical`."""

CT_AXES = "SPL"
"""Those of the prepared Synapse data: slice 0 is the lowest, row 0 anterior, column 0 the patient's right."""


_POSITIVE = {"R": 0, "A": 1, "S": 2}
_NEGATIVE = {"L": 0, "P": 1, "I": 2}


@dataclass(frozen=True, slots=True)
class Turn:
    """From the axes of a file, [x, y, z], to [D, H, W]."""

    order: tuple[int, int, int] = (2, 1, 0)
    """Which of the file's axes D, H and W are."""
    flipped: tuple[bool, bool, bool] = (False, False, False)
    """Whether D, H and W run against the file's axis."""

    def apply(self, values: NDArray[Any]) -> NDArray[Any]:
        """Turn [x, y, z] to [D, H, W], or [x, y, z, C] to [C, D, H, W]."""
        channels = range(3, values.ndim)
        steps = (slice(None),) * len(channels) + self._steps()
        turned: NDArray[Any] = values.transpose(*channels, *self.order)[steps]
        return turned

    def undo(self, labels: NDArray[Any]) -> NDArray[Any]:
        """Turn [D, H, W] back to [x, y, z]."""
        back: NDArray[Any] = labels[self._steps()].transpose(np.argsort(self.order))
        return back

    def of_axes(self, values: Sequence[Any]) -> tuple[Any, ...]:
        """Put what belongs to x, y and z in the order of D, H and W."""
        return tuple(values[axis] for axis in self.order)

    def of_affine(self, affine: Affine, shape: Sequence[int]) -> Affine:
        """Return the affine of the turned volume: from (d, h, w) to where the file's affine, [4, 4], puts the voxel."""
        moves = np.zeros((4, 4))
        moves[3, 3] = 1
        for place, (axis, flip) in enumerate(zip(self.order, self.flipped, strict=True)):
            moves[axis, place] = -1 if flip else 1
            moves[axis, 3] = shape[axis] - 1 if flip else 0
        turned: Affine = affine @ moves
        return turned

    def _steps(self) -> tuple[slice, ...]:
        return tuple(slice(None, None, -1 if flip else 1) for flip in self.flipped)


def turn_to(axes: str | None, affine: Affine | None) -> Turn:
    """Return the turn that makes D, H and W of a file run as `axes` says.

    Args:
        axes: Three letters, as in `PLANES`; None: third, second and first axis of the file, whichever way they run.
        affine: [4, 4] of the file; None: its axes run to the right, to the front and up.
    """
    if axes is None:
        return Turn()
    from nibabel.orientations import io_orientation

    found = io_orientation(np.eye(4) if affine is None else affine)
    order, flipped = [], []
    for letter in axes:
        direction = _POSITIVE.get(letter, _NEGATIVE.get(letter))
        axis = int(np.flatnonzero(found[:, 0] == direction)[0])
        order.append(axis)
        flipped.append(bool((found[axis, 1] < 0) != (letter in _NEGATIVE)))
    return Turn((order[0], order[1], order[2]), (flipped[0], flipped[1], flipped[2]))


def are_axes(axes: object) -> bool:
    """Return whether this is three letters that name three different directions."""
    if not isinstance(axes, str) or len(axes) != 3:
        return False
    return {_POSITIVE.get(letter, _NEGATIVE.get(letter)) for letter in axes} == {0, 1, 2}


def axis_codes(affine: Affine) -> str:
    """Return the directions in which the axes of a file run most nearly, as in `RAS`."""
    from nibabel.orientations import aff2axcodes

    return "".join(aff2axcodes(affine))


def voxel_sizes(affine: Affine) -> tuple[float, ...]:
    """Return the length of a step along x, y and z."""
    return tuple(float(size) for size in np.sqrt((affine[:3, :3] ** 2).sum(0)))


def obliquity(affine: Affine) -> float:
    """Return the largest angle in degrees between an axis of the file and the direction that it runs in most nearly."""
    cosines = np.abs(affine[:3, :3] / np.array(voxel_sizes(affine))).max(0)
    return float(np.degrees(np.arccos(np.clip(cosines, -1, 1))).max())


def shear(affine: Affine) -> float:
    """Return by how many degrees the angles between the axes of the file differ from right ones, at most."""
    directions = affine[:3, :3] / np.array(voxel_sizes(affine))
    cosines = (directions.T @ directions)[np.triu_indices(3, 1)]
    return float(np.degrees(np.arcsin(np.clip(np.abs(cosines), 0, 1))).max())


def farthest(one: Affine, other: Affine, shape: Sequence[int]) -> float:
    """Return how far two affines put the corners of a volume of `shape` apart, at most, in voxels of the first one."""
    corners = np.array(np.meshgrid(*([0, extent - 1] for extent in shape))).reshape(3, -1)
    apart = (one - other) @ np.vstack([corners, np.ones(corners.shape[1])])
    return float(np.sqrt((apart[:3] ** 2).sum(0)).max() / min(voxel_sizes(one)))


NIFTI = (".nii.gz", ".nii")
VOLUMES = (*NIFTI, *ITK)
"""File endings of volumes; a TIFF is one when it has several pages."""
ENDINGS = (*VOLUMES, *SUFFIXES)
"""File endings that are read."""

AXIAL = PLANES["axial"]

PICTURE = ReadOptions(is_upright=True)
"""How pictures among volumes are read: as a viewer shows them, images and labels alike."""
SAME_PLACE = 0.5
"""Voxels by which the corners of two files may differ that lie on each other."""

_MILLIMETRES = {
    **dict.fromkeys(("um", "µm", "μm", "micron", "microns", "micrometer", "micrometers", "micrometre"), 1e-3),
    **dict.fromkeys(("mm", "millimeter", "millimeters", "millimetre"), 1.0),
    **dict.fromkeys(("cm", "centimeter", "centimeters", "centimetre"), 10.0),
    **dict.fromkeys(("m", "meter", "meters", "metre"), 1e3),
}
_DEFLATE_RATIO = 1032
"""The most that a byte of gzip can hold: a head that promises more is damaged, and nothing is allocated for it."""
_LABEL_NOISE = 1e-3
"""Labels that were scaled or stored as floats differ from whole numbers by less; interpolated ones by more."""

Found = TypeVar("Found")

_DAMAGED = (OSError, ValueError, EOFError, KeyError, TypeError, OverflowError, zlib.error)


@dataclass(frozen=True, slots=True)
class Head:
    """What the head of a file says, in the file's own order of axes."""

    shape: tuple[int, ...]
    """[x, y, z]"""
    channels: int
    affine: Affine | None
    """[4, 4] in the file's unit; None where it states no place."""
    unit: str | None = None
    """None where it states none."""
    remarks: tuple[str, ...] = ()
    """What of it contradicts itself or is missing, and what is made of that."""

    def in_mm(self, unit: str | None = None) -> Affine | None:
        """Return the affine in mm; `unit` is that of a file which states none."""
        if self.affine is None:
            return None
        factor = _MILLIMETRES.get((self.unit or unit or "mm").lower(), 1.0)
        return np.diag([factor, factor, factor, 1.0]) @ self.affine


@dataclass(frozen=True, slots=True)
class Grid:
    """Where the voxels of a volume are."""

    shape: tuple[int, ...]
    """[D, H, W]"""
    channels: int
    spacing: tuple[float, ...] | None
    """Along each axis of `shape`, in mm; None for a picture."""
    affine: tuple[float, ...] | None
    """The 16 numbers that take (d, h, w) to a place in mm."""
    head: Head = field(compare=False)

    @property
    def matrix(self) -> Affine | None:
        """`affine` as [4, 4]."""
        return None if self.affine is None else np.reshape(self.affine, (4, 4))


def read_grid(path: Path, axes: str | None = AXIAL, *, like: Path | None = None) -> Grid:
    """Return the grid of a file from its head (a picture is read whole).

    Args:
        path: The file.
        axes: How D, H and W run; None: third, second and first axis of the file.
        like: The image that a label map, or a further channel, belongs to.

    Raises:
        DataError: It cannot be read, or its head states no size of a voxel.
    """
    head = read_volume_head(path)
    turn, affine = _place(head, axes, read_volume_head(like) if like is not None and like != path else None)
    if affine is None:
        return Grid(turn.of_axes(head.shape), head.channels, None, None, head)
    numbers = tuple(float(number) for number in turn.of_affine(affine, head.shape).ravel())
    return Grid(turn.of_axes(head.shape), head.channels, turn.of_axes(voxel_sizes(affine)), numbers, head)


def read_channels(path: Path, axes: str | None = AXIAL, *, like: Path | None = None) -> NDArray[np.float32]:
    """Read an image as [C, D, H, W] float32, values as in the file (a picture's over its largest).

    Arguments as `read_grid`.

    Raises:
        DataError: It cannot be read, or holds values that are not finite.
    """
    if not is_volume(path):
        return read_image(path, None, PICTURE)[:, None]
    turned = turn_of(path, axes, like=like).apply(_read_values(path))
    values: NDArray[np.float32] = np.ascontiguousarray(turned, np.float32)
    broken = int(np.count_nonzero(~np.isfinite(values)))
    if broken:
        raise DataError(
            f"{broken} voxels are not finite (NaN or infinity).",
            hint="A number in their place, as that of air, would do.",
            where=str(path),
        )
    return values if values.ndim == 4 else values[None]


def read_truth(path: Path, axes: str | None = AXIAL, *, like: Path | None = None) -> NDArray[np.int32]:
    """Read a label map as [D, H, W]; DataError when it cannot be read or holds what is not a label."""
    if not is_volume(path):
        return _grey(read_codes(path, PICTURE), path)[None]
    values = _read_values(path)
    if values.ndim != 3:
        raise DataError(f"a label map has one value a voxel, not {values.shape[3]}.", where=str(path))
    whole = values if values.dtype.kind in "biu" else np.rint(values.astype(np.float64))
    if whole is not values and not (np.abs(whole - values) <= _LABEL_NOISE).all():
        raise DataError(
            "holds values that are not whole numbers.",
            hint="Label maps that are resampled need the nearest neighbour, not interpolation.",
            where=str(path),
        )
    if whole.size and max(abs(int(whole.min())), abs(int(whole.max()))) >= 1 << 31:
        raise DataError("holds values that are not whole numbers below 2147483648.", where=str(path))
    return np.ascontiguousarray(turn_of(path, axes, like=like).apply(whole), np.int32)


def _grey(codes: NDArray[np.int32], path: Path) -> NDArray[np.int32]:
    """Return the label ids of a picture; a grey one may be stored in colour."""
    if not codes.size or codes.max() < COLOUR:
        return codes
    red, green, blue = ((codes - COLOUR) >> shift & 255 for shift in (16, 8, 0))
    if not (np.array_equal(red, green) and np.array_equal(green, blue)):
        raise DataError("a label map in colour; label ids as grey values would do.", where=str(path))
    return blue


def turn_of(path: Path, axes: str | None, *, like: Path | None = None) -> Turn:
    """Return how a file is turned; arguments as `read_grid`."""
    return _place(read_volume_head(path), axes, read_volume_head(like) if like is not None and like != path else None)[
        0
    ]


def read_volume_head(path: Path) -> Head:
    """Return what the head of a file says; DataError as `read_grid`."""
    if not path.is_file():
        raise DataError(f"{not_there(path)}.", where=str(path))
    try:
        head = _head_of(path)
    except DataError as error:
        raise DataError(error.message, hint=error.hint, where=error.where or str(path)) from None
    if head.affine is not None and not _is_place(head.affine):
        shown = ", ".join(f"{extent:g}" for extent in voxel_sizes(head.affine))
        raise DataError(f"the spacing ({shown}) or the affine of its head is no size of a voxel.", where=str(path))
    return head


def not_there(path: Path) -> str:
    """Say that there is no such file, and where a broken link leads."""
    return f"a link to {path.readlink()}, which is not there" if path.is_symlink() else "the file is not there"


def _head_of(path: Path) -> Head:
    if is_nifti(path):
        return open_nifti(path, _nifti_head)
    if is_itk(path):
        shape, affine, unit = itk_head(path)
        return Head(*_check(shape), affine, unit)
    if is_stack(path):
        spacing = stack_spacing(path)
        return Head(*_check(stack_shape(path)), None if spacing is None else np.diag([*spacing[::-1], 1.0]))
    raster = read_raster(path, PICTURE)
    planes = intensities(raster, None, PICTURE)
    remarks = []
    if raster.orientation != 1:
        remarks.append(
            f"EXIF orientation {raster.orientation} ({ORIENTATIONS[raster.orientation]}) is applied, as a viewer does; "
            "where labels were drawn on the pixels as stored, remove the tag"
        )
    if raster.alpha is not None:
        remarks.append("alpha is left out")
    return Head((*planes.shape[:0:-1], 1), len(planes), None, remarks=tuple(remarks))


def companions(path: Path) -> list[Path]:
    """Return the files beside that belong to a file: the values of a `.mhd`, the spacing of a TIFF."""
    if not path.is_file():
        return []
    beside = itk_companion(path) if is_itk(path) else spacing_file(path) if is_stack(path) else None
    return [] if beside is None else [beside]


def read_json(path: Path) -> dict[str, Any]:
    """Read the description of a data set; DataError when it is missing or no JSON object."""
    try:
        found = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise DataError("the description of the data set is not there.", where=str(path)) from None
    except (OSError, ValueError) as error:
        raise DataError(f"cannot be read as JSON: {error}.", where=str(path)) from error
    if not isinstance(found, dict):
        raise DataError(f"holds a {type(found).__name__}, not an object.", where=str(path))
    return found


def is_nifti(path: Path) -> bool:
    """Return whether this is NIfTI, by its name."""
    return path.name.lower().endswith(NIFTI)


def is_itk(path: Path) -> bool:
    """Return whether this is NRRD or MetaImage, by its name."""
    return path.name.lower().endswith(ITK)


def is_volume(path: Path) -> bool:
    """Return whether this is a volume, not a picture."""
    return is_nifti(path) or is_itk(path) or is_stack(path)


def open_nifti(path: Path, read: Callable[[Any], Found]) -> Found:
    """Open a NIfTI file and return what `read` makes of it; DataError says what is wrong with the file."""
    import nibabel
    from nibabel.filebasedimages import ImageFileError
    from nibabel.spatialimages import HeaderDataError
    from nibabel.wrapstruct import WrapStructError

    if not path.is_file():
        raise DataError("the file is not there.", where=str(path))
    try:
        return read(nibabel.load(path))
    except DataError as error:
        raise DataError(error.message, hint=error.hint, where=str(path)) from None
    except (*_DAMAGED, ImageFileError, HeaderDataError, WrapStructError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
        size = path.stat().st_size
        raise DataError(
            f"cannot be read as NIfTI ({size} bytes; truncated?): {reason}.",
            hint=_advice(path),
            where=str(path),
        ) from error


def _advice(path: Path) -> str | None:
    """What would mend a file whose name does not say what it is."""
    with path.open("rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
    if packed != path.name.lower().endswith(".gz"):
        what, ending = ("compressed", ".nii.gz") if packed else ("not compressed", ".nii")
        return f"It is {what}: a name that ends in {ending} would do." if path.stat().st_size else None
    return None


def _place(head: Head, axes: str | None, like: Head | None) -> tuple[Turn, Affine | None]:
    """Return how a file is turned, and its affine in mm.

    A file that lies on the image it belongs to is turned as the image: where axes run at 45 degrees, a rounding error
    must not decide otherwise for the one than for the other.
    """
    affine = head.in_mm(like.unit if like else None)
    if like is not None and affine is not None:
        other = like.in_mm()
        if other is not None and like.shape == head.shape and farthest(other, affine, head.shape) <= SAME_PLACE:
            return turn_to(axes, other), affine
    return turn_to(axes, affine), affine


def _check(shape: Sequence[int]) -> tuple[tuple[int, ...], int]:
    """Return [x, y, z] and the number of channels; axes of one voxel at the end count for nothing."""
    kept = list(map(int, shape))
    while len(kept) > 3 and kept[-1] == 1:
        kept.pop()
    if len(kept) == 5 and kept[3] == 1:
        kept.pop(3)  # ITK writes several values a voxel along a fifth axis
    kept += [1] * (3 - len(kept))
    if len(kept) > 4 or min(kept) < 1:
        raise DataError(f"has shape {tuple(shape)}; three axes, or four with the channels last, would do.")
    return tuple(kept[:3]), kept[3] if len(kept) == 4 else 1


def _is_place(affine: Affine) -> bool:
    finite = bool(np.isfinite(affine).all())
    # Columns that lie in one plane, or a size of zero, are no place of a volume.
    return finite and min(voxel_sizes(affine)) > 0 and abs(np.linalg.det(affine[:3, :3] / voxel_sizes(affine))) > 1e-3


def _nifti_head(image: Any) -> Head:
    header = image.header
    shape, channels = _check(image.shape)
    zooms = [float(zoom) for zoom in header["pixdim"][1 : 1 + min(len(image.shape), 3)]]
    affine = np.asarray(image.affine, np.float64)
    if not np.isfinite([*zooms, *affine.ravel()]).all():
        shown = ", ".join(f"{zoom:g}" for zoom in zooms)
        raise DataError(f"the spacing ({shown}) or the affine of its head is no size of a voxel.")
    if int(header["sform_code"]) <= 0 and _has_negative_sizes(image):
        raise DataError(
            "its sizes of a voxel (pixdim) are negative, and it has no sform: some programs mirror it, others do not.",
            hint="Write positive sizes, and the direction into the sform or the quaternion.",
        )
    try:
        unit = header.get_xyzt_units()[0]
    except KeyError:
        unit = "unknown"
    return Head(
        shape, channels, affine, None if unit == "unknown" else str(unit), tuple(_remarks(header, affine, zooms))
    )


def _has_negative_sizes(image: Any) -> bool:
    """Look at the head as it is stored: nibabel takes signs away when it loads a file."""
    holder = image.file_map.get("header") or image.file_map["image"]
    with holder.get_prepare_fileobj("rb") as file:
        stored = type(image.header).from_fileobj(file, check=False)
    return bool((stored["pixdim"][1 : 1 + min(len(image.shape), 3)] < 0).any())


def _remarks(header: Any, affine: Affine, zooms: Sequence[float]) -> list[str]:
    found = []
    sizes = voxel_sizes(affine)[: len(zooms)]
    if not np.allclose(zooms, sizes, rtol=1e-3, atol=0):
        stated, taken = (" x ".join(f"{size:g}" for size in row) for row in (zooms, sizes))
        found.append(f"pixdim ({stated}) differs from the affine ({taken}), which is taken")
    by_code = [int(header["sform_code"]) > 0, int(header["qform_code"]) > 0]
    if by_code == [False, False]:
        found.append("neither sform nor qform states a place: the axes are taken to run to the left, the front and up")
    elif by_code == [True, True] and _forms_differ(header, affine):
        found.append("qform and sform differ: the sform is taken, as by nibabel (SimpleITK takes the qform)")
    return found


def _forms_differ(header: Any, affine: Affine) -> bool:
    from nibabel.spatialimages import HeaderDataError

    try:
        other = np.asarray(header.get_qform(), np.float64)
    except (HeaderDataError, ValueError):
        return True
    shape = (*header.get_data_shape()[:3], 1, 1)[:3]
    return not np.isfinite(other).all() or farthest(affine, other, shape) > SAME_PLACE


def _read_values(path: Path) -> NDArray[Any]:
    """Return the values of a volume, [x, y, z] or [x, y, z, C]."""
    if is_nifti(path):
        return open_nifti(path, _nifti_values)
    values = itk_values(path) if is_itk(path) else stack_values(path)
    try:
        return _bare(values)
    except DataError as error:
        raise DataError(error.message, where=str(path)) from None


def _nifti_values(image: Any) -> NDArray[Any]:
    kind = image.get_data_dtype()
    if kind.kind not in "biuf":
        raise DataError(f"holds values of type {kind}; whole or real numbers would do.")
    path = Path(image.get_filename())
    promised = math.prod(map(int, image.shape)) * kind.itemsize
    if promised > path.stat().st_size * (_DEFLATE_RATIO if path.name.lower().endswith(".gz") else 1):
        raise ValueError(f"its head promises {promised} bytes of values")
    return _bare(np.asanyarray(image.dataobj))


def _bare(values: NDArray[Any]) -> NDArray[Any]:
    if values.dtype.kind not in "biuf":
        raise DataError(f"holds values of type {values.dtype}; whole or real numbers would do.")
    shape, channels = _check(values.shape)
    return values.reshape((*shape, channels) if channels > 1 else shape)

"""The one reader of image files: as a picture, with its colours, or as numbers, such as labels and depth.

What a file is says its beginning, not its name. TIFF is read by tifffile, and by Pillow where tifffile needs a codec
that is not installed; .npy and .npz by numpy; everything else by Pillow.
"""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from PIL import Image
    from tifffile import TiffPage, TiffPageSeries

PathLike = str | os.PathLike[str]
Tell = Callable[[str], None]
Wanted = Literal["picture", "numbers"]

# of Pillow's formats those that hold pixels; some of the others start programs, as EPS does
_FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "DIB", "PPM", "JPEG2000", "AVIF", "TIFF", "TGA")
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_HEIF = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
_TURNS = {2: (True, 2), 3: (False, 2), 4: (True, 0), 5: (True, 3), 6: (False, 3), 7: (True, 1), 8: (False, 1)}
"""EXIF orientation -> whether rows are mirrored first, and quarter turns against the clock after that."""
_ORIENTATION_TAG = 274
_LOSSY = ("JPEG", "OJPEG", "JPEG_LOSSY")


@dataclass(frozen=True)
class _Read:
    """What is in a file.

    Attributes
    ----------
    values
        (H, W), or (H, W, channels) where they are colours, or whatever shape a .npy has that is neither.
    colours
        Whether `values` holds colours: RGB, or RGB and alpha.
    indices
        Whether `values` are indices of a palette.
    lossy
        Whether the format changes the numbers that are saved in it.
    """

    values: NDArray[Any]
    colours: bool = False
    indices: bool = False
    lossy: bool = False


def read_image(path: PathLike, page: int | None = None, tell: Tell | None = None) -> NDArray[Any]:
    """Return the picture in an image file, upright as its EXIF orientation says.

    Parameters
    ----------
    path
        A TIFF, PNG, JPEG, WEBP, GIF or another format that Pillow reads, .npy, or .npz with one array.
    page
        Which one of a file with several pages, frames, slices or channels, from 0; the first if None.
    tell
        Told in a sentence which page is read, where there are several and `page` is None, and what is left out.

    Returns
    -------
    (H, W) grey, (H, W, 3) RGB or (H, W, 4) RGBA, in the file's own dtype and native byte order; palettes and CMYK are
    RGB uint8. A fourth channel that is no alpha is left out. What cannot be understood as a picture keeps its shape.

    Raises
    ------
    ValueError
        If there is no such file or page, or it cannot be read as an image; the message says which.
    """
    return _read(path, "picture", page, tell or _say_nothing).values


def read_labels(path: PathLike, page: int | None = None, tell: Tell | None = None) -> NDArray[Any]:
    """Return the labels in an image file, (H, W) bool or integers; of a palette image its indices.

    Parameters and errors as in `read_image`; files that hold colours, fractions or several planes are refused as well,
    and JPEG, which changes numbers.
    """
    read = _read(path, "numbers", page, tell or _say_nothing)
    if read.colours:
        raise ValueError(
            f"{path} cannot be used as labels: it holds colours, not label numbers; save the labels as a TIFF, or as a "
            "grey or palette PNG."
        )
    if read.lossy:
        raise ValueError(f"{path} cannot be used as labels: JPEG changes their numbers; save them as a TIFF or PNG.")
    labels = read.values
    if labels.dtype.kind not in "biu" or labels.ndim != 2:
        raise ValueError(
            f"{path} cannot be used as labels: they are integers in rows and columns, got {labels.dtype} of "
            f"shape {labels.shape}."
        )
    return labels


def read_values(path: PathLike, page: int | None = None, tell: Tell | None = None) -> NDArray[Any]:
    """Return the numbers in an image file as they are stored, (H, W); parameters and errors as in `read_image`.

    Files with colours or a palette are refused.
    """
    read = _read(path, "numbers", page, tell or _say_nothing)
    if read.colours or read.indices:
        raise ValueError(
            f"{path} cannot be used as depth: it holds colours; give the file with the numbers themselves."
        )
    return read.values


def is_tiff(path: PathLike) -> bool:
    """Whether a file that can be opened begins as a TIFF does, whatever its name."""
    with Path(path).open("rb") as stream:
        return stream.read(4) in _TIFF


def _say_nothing(text: str) -> None:
    pass


def _read(path: PathLike, wanted: Wanted, page: int | None, tell: Tell) -> _Read:
    file = Path(path)
    try:
        if file.is_dir():
            raise ValueError(f"{file} is a folder; give the name of an image in it.")
        if not file.exists():
            raise ValueError(f"There is no file {file}; check the path.")
        if not file.is_file():
            raise ValueError(f"{file} is a pipe or a device; give the name of an image file.")
        stream = file.open("rb")
    except OSError as error:
        raise ValueError(f"{file} cannot be read: {error.strerror}; check its name and its permissions.") from error
    logging.getLogger("tifffile").addHandler(logging.NullHandler())  # it logs what it then raises
    with stream, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about damaged metadata, which the pixels do not need
        start = stream.read(16)
        stream.seek(0)
        if not start:
            raise ValueError(f"{file} is empty; give an image file.")
        try:
            read = _reader(start)(stream, file, wanted, page, tell)
        except (_Refused, MemoryError):
            raise
        except Exception as error:  # each library has its own for a broken file
            raise ValueError(_why_not(file, start, error)) from error
    values = np.ascontiguousarray(read.values, dtype=read.values.dtype.newbyteorder("="))
    return replace(read, values=values)


class _Refused(ValueError):
    """The file was understood, and is not what can be used."""


def _reader(start: bytes) -> Callable[[IO[bytes], Path, Wanted, int | None, Tell], _Read]:
    if start[:4] in _TIFF:
        return _read_tiff
    return _read_numpy if start.startswith((b"\x93NUMPY", b"PK")) else _read_with_pillow


def _why_not(file: Path, start: bytes, error: Exception) -> str:
    text = str(error)
    if "imagecodecs" in text:
        return f"{file} is compressed in a way that needs one more package; install it with `pip install imagecodecs`."
    if start[4:8] == b"ftyp" and start[8:12] in _HEIF:
        return f"{file} is a HEIC picture, which cannot be read here; save it as a JPEG, PNG or TIFF."
    if type(error).__name__ == "DecompressionBombError":
        return f"{file} has more pixels than are read from this format; save it as a TIFF."
    if "truncated" in text or "broken PNG" in text or "failed to read" in text:
        return f"{file} cannot be read as an image: it is cut short or damaged; copy or save it again."
    return f"{file} cannot be read as an image; give a TIFF, PNG, JPEG or .npy file."


def _chosen(file: Path, count: int, page: int | None, what: str, tell: Tell) -> int:
    """Return which of `count` pages to read, and tell it where that was not asked for."""
    if page is not None and page >= count:
        raise _Refused(f"{file} has no page {page}: it has {count} {what}, counted from 0.")
    if page is None and count > 1:
        tell(f"{file} has {count} {what}; the first, page 0, is used.")
    return page or 0


def _read_numpy(stream: IO[bytes], file: Path, wanted: Wanted, page: int | None, tell: Tell) -> _Read:
    try:
        found = np.load(stream, allow_pickle=False)
    except BadZipFile as error:
        raise ValueError("truncated") from error
    if isinstance(found, np.lib.npyio.NpzFile):
        with found:
            if len(found.files) != 1:
                names = ", ".join(found.files[:10]) or "none"
                raise _Refused(f"{file} must hold one array, got {len(found.files)} ({names}); save one as .npy.")
            array = np.asarray(found[found.files[0]])
    else:
        array = np.asarray(found)
    array = _without_single(array)
    if wanted == "numbers":
        return _Read(array)
    if array.ndim == 3 and array.shape[0] == 3 and min(array.shape[1:]) > 4:
        tell(f"{file} has the shape {array.shape}; its first axis is taken for red, green and blue.")
        array = np.moveaxis(array, 0, 2)
    coloured = array.shape[-1] in (3, 4)
    if array.ndim == 3 + coloured:
        array = array[_chosen(file, len(array), page, "planes", tell)]
    else:
        _chosen(file, 1, page, "page", tell)
    return _coloured(array, may_be_alpha=True) if array.ndim == 3 and coloured else _Read(array)


def _without_single(array: NDArray[Any]) -> NDArray[Any]:
    """Drop first and last axes of length 1 until two are left."""
    while array.ndim > 2 and array.shape[0] == 1:
        array = array[0]
    while array.ndim > 2 and array.shape[-1] == 1:
        array = array[..., 0]
    return array


def _coloured(values: NDArray[Any], may_be_alpha: bool) -> _Read:
    """Return (H, W, 3), or (H, W, 4) where the fourth channel is alpha, from what has at least three channels."""
    if values.shape[2] > 3 and may_be_alpha and _looks_like_alpha(values[..., 3]):
        return _Read(values[..., :4], colours=True)
    return _Read(values[..., :3], colours=True)


def _looks_like_alpha(channel: NDArray[Any]) -> bool:
    """Whether most values of a channel are wholly clear or wholly opaque, and some opaque.

    Many programs, tifffile by default among them, declare any fourth channel to be alpha, also a near-infrared one.
    """
    if channel.dtype.kind not in "buif":
        return False
    full = np.iinfo(channel.dtype).max if channel.dtype.kind in "ui" else 1
    opaque = int(np.count_nonzero(channel == full))
    return opaque > 0 and 2 * (opaque + int(np.count_nonzero(channel == 0))) >= channel.size


def _read_tiff(stream: IO[bytes], file: Path, wanted: Wanted, page: int | None, tell: Tell) -> _Read:
    from tifffile import TiffFile

    with TiffFile(stream, name=str(file)) as tiff:
        if not tiff.series:
            raise ValueError("truncated")
        series = tiff.series[0]
        if len(tiff.series) > 1:
            tell(f"{file} has {len(tiff.series)} images of different kinds; the first is used.")
        count = int(np.prod([size for axis, size in zip(series.axes, series.shape, strict=True) if axis not in "YXS"]))
        first = series.keyframe
        many = _name(first.photometric).startswith("MINIS") and first.samplesperpixel > 4
        if wanted == "picture" or count == 1:
            index = _chosen(file, count * (first.samplesperpixel if many else 1), page, "pages", tell)
        else:
            return _Read(series.asarray())
        index, channel = divmod(index, first.samplesperpixel) if many else (index, None)
        try:
            values = _plane_of(series, index, count)
            if _name(first.photometric) == "YCBCR" and _name(first.compression) != "JPEG":
                raise ValueError("imagecodecs")  # Pillow knows how to turn it into RGB
        except ValueError as error:
            if "imagecodecs" not in str(error):
                raise
            number = index if len(series.pages) == count else 0
            return _by_pillow_instead(stream, file, first, wanted, first.index + number, error)
        values = values[..., channel] if channel is not None else values
        read = _tiff_numbers(values) if wanted == "numbers" else _tiff_picture(values, first, file, tell)
        turned = _upright(read.values, _orientation(first))
        indices = wanted == "numbers" and _name(first.photometric) == "PALETTE"
        return replace(read, values=turned, indices=indices, lossy=_name(first.compression) in _LOSSY)


def _name(code: int) -> str:
    """The name of one of TIFF's codes, or its number where tifffile knows no name for it."""
    return str(getattr(code, "name", code))


def _orientation(page: TiffPage) -> int:
    tag = page.tags.get(_ORIENTATION_TAG)
    return int(tag.value) if tag is not None else 1


def _upright(array: NDArray[Any], orientation: int) -> NDArray[Any]:
    mirrored, turns = _TURNS.get(orientation, (False, 0))
    return np.rot90(np.flipud(array) if mirrored else array, turns)


def _plane_of(series: TiffPageSeries, index: int, count: int) -> NDArray[Any]:
    """Return one plane of a TIFF's series, (H, W) or (H, W, samples); only its page is read where it has one."""
    pages, axes = series.pages, series.axes
    if len(pages) == count:
        page = pages[index]
        if page is None:
            raise _Refused(f"page {index} lies in another file, which is not there.")
        array, axes = page.asarray(), page.axes
    else:
        array = series.asarray()
    array = np.asarray(array)
    others = [axis for axis in axes if axis not in "YXS"]
    order = [*others, "Y", "X", *(["S"] if "S" in axes else [])]
    array = np.transpose(array, [axes.index(axis) for axis in order])
    planes = array.reshape(-1, *array.shape[len(others) :])
    return np.asarray(planes[index if len(planes) > 1 else 0])


def _tiff_numbers(values: NDArray[Any]) -> _Read:
    values = _without_single(values)
    return _Read(values, colours=values.ndim > 2)


def _tiff_picture(values: NDArray[Any], page: TiffPage, file: Path, tell: Tell) -> _Read:
    """Return a plane of a TIFF as a picture, after what its tags say of its samples."""
    values, kind = _without_single(values), _name(page.photometric)
    extra = [_name(sample) for sample in page.extrasamples]
    alpha = bool(extra) and extra[0] == "UNASSALPHA"  # what is associated is laid over black already
    if values.ndim == 2:
        if kind == "PALETTE" and page.colormap is not None:  # (3, colours) uint16
            return _Read((np.moveaxis(page.colormap, 0, 1)[values] >> 8).astype(np.uint8), colours=True)
        return _Read(_inverted(values, page.bitspersample) if kind == "MINISWHITE" else values)
    if kind == "SEPARATED":
        if values.shape[2] < 4:
            raise _Refused(f"{file} holds inks other than CMYK; save it as RGB.")
        return _Read(_rgb_of_cmyk(values[..., :4]), colours=True)
    if kind not in ("RGB", "YCBCR", "MINISBLACK", "MINISWHITE"):
        raise _Refused(f"{file} holds colours of the kind {kind}; save it as RGB.")
    if values.shape[2] == 2:
        grey, cover = values[..., 0], values[..., 1]
        if alpha and _looks_like_alpha(cover):
            return _Read(np.stack([grey, grey, grey, cover], axis=-1), colours=True)
        tell(f"{file} has 2 channels; the first is used.")
        return _Read(grey)
    if values.shape[2] > 3 and not (alpha and _looks_like_alpha(values[..., 3])):
        tell(f"{file} has {values.shape[2]} channels; the first three are taken for red, green and blue.")
    return _coloured(values, alpha)


def _inverted(values: NDArray[Any], bits: int) -> NDArray[Any]:
    if values.dtype.kind == "b":
        return ~values
    return (2**bits - 1 - values).astype(values.dtype) if values.dtype.kind == "u" else values


def _rgb_of_cmyk(inks: NDArray[Any]) -> NDArray[np.uint8]:
    """Return (H, W, 3) uint8 from (H, W, 4) cyan, magenta, yellow and black, where the dtype's maximum is full ink."""
    if inks.dtype.kind != "u":
        raise ValueError("CMYK of other than unsigned integers")
    light = 1 - inks.astype(np.float32) / np.iinfo(inks.dtype).max
    return np.asarray(np.rint(255 * light[..., :3] * light[..., 3:]).astype(np.uint8))


def _by_pillow_instead(
    stream: IO[bytes], file: Path, page: TiffPage, wanted: Wanted, number: int, error: ValueError
) -> _Read:
    """Read a page of a TIFF that tifffile cannot decode; raises `error` where Pillow would change its numbers."""
    if wanted == "numbers" and _name(page.photometric) == "MINISWHITE":
        raise error
    stream.seek(0)
    try:
        read = _read_with_pillow(stream, file, wanted, number, _say_nothing)
    except MemoryError:
        raise
    except Exception as other:
        raise error from other
    values = read.values
    if page.dtype == np.uint32 and values.dtype == np.int32:
        values = values.view(np.uint32)
    if _name(page.photometric) not in ("PALETTE", "YCBCR", "SEPARATED") and values.dtype != page.dtype:
        raise error
    return replace(read, values=values, lossy=_name(page.compression) in _LOSSY)


def _read_with_pillow(stream: IO[bytes], file: Path, wanted: Wanted, page: int | None, tell: Tell) -> _Read:
    from PIL import Image, ImageOps

    Image.init()
    with Image.open(stream, formats=[name for name in _FORMATS if name in Image.OPEN]) as image:
        # further pictures in a phone's JPEG are previews and maps of the first
        count = 1 if image.format in ("MPO", "JPEG") else getattr(image, "n_frames", 1)
        index = _chosen(file, count, page, "frames", tell)
        if index:
            image.seek(index)
        lossy = image.format in ("JPEG", "MPO")
        deep = image.format == "PNG" and _is_deep_colour(stream)
        upright = ImageOps.exif_transpose(image)
        read = _pillow_numbers(upright, deep) if wanted == "numbers" else _pillow_picture(upright)
        if wanted == "picture" and deep and read.values[..., :3].max(initial=0) < 16:
            raise _Refused(f"{file} is a colour PNG of 16 bits that is nearly black in 8; save it as a TIFF.")
        return replace(read, lossy=lossy)


def _is_deep_colour(stream: IO[bytes]) -> bool:
    """Whether a PNG has 16 bits in each of several channels, of which Pillow reads the upper 8."""
    place = stream.tell()
    stream.seek(24)
    depth, kind = stream.read(2)
    stream.seek(place)
    return depth == 16 and kind in (2, 4, 6)


def _pillow_numbers(image: Image.Image, deep: bool) -> _Read:
    if image.mode == "LA" and not deep and image.getextrema()[1] == (255, 255):
        image = image.getchannel("L")  # alpha that hides nothing
    values = np.asarray(image)
    return _Read(values, colours=values.ndim > 2, indices=image.mode == "P")


def _pillow_picture(image: Image.Image) -> _Read:
    mode = image.mode
    if mode in ("P", "PA", "LA", "La", "RGBa"):
        clear = mode != "P" or "transparency" in image.info
        image = image.convert("RGBA" if clear else "RGB")
    elif mode in ("CMYK", "YCbCr", "HSV", "RGBX", "LAB"):
        image = image.convert("RGB")
    values = np.asarray(image)
    return _Read(values, colours=values.ndim > 2)

"""The one reader of images, on a table of files as cameras, microscopes and painting programs write them."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image, features

from napari_samdepth.core.plane import to_rgb
from napari_samdepth.storage.export import read_depth
from napari_samdepth.storage.images import read_image, read_labels

ROWS, COLS = 40, 60
row, col = np.mgrid[:ROWS, :COLS]
GREY = ((row * 5 + col) % 256).astype(np.uint8)
RGB = np.stack([GREY, 255 - GREY, (col * 4).astype(np.uint8)], axis=-1)
DEEP = (GREY.astype(np.uint16) * 201 + 7).astype(np.uint16)
NIR = np.random.default_rng(0).integers(0, 4096, (ROWS, COLS)).astype(np.uint16)
RGBN = np.dstack([RGB.astype(np.uint16) * 16, NIR])
ALPHA = np.where(col < 20, 0, 255).astype(np.uint8)
COLOURS = [0, 0, 0, 200, 10, 10, 10, 200, 10, 10, 10, 200]
INDEX = (col // 15).astype(np.uint8)
"""(ROWS, COLS), 0 to 3: what a painting program saves as labels with the palette `COLOURS`."""
NOISE = np.random.default_rng(1).integers(0, 60000, (5, ROWS, COLS)).astype(np.uint16)
FLOAT = np.where(row < 3, np.nan, DEEP / 1000).astype(np.float32)


def palette() -> Image.Image:
    image = Image.fromarray(INDEX).convert("P")
    image.putpalette(COLOURS)
    image.paste(Image.fromarray(INDEX, "L"))
    return image


def saved(image: np.ndarray | Image.Image, **words: object) -> Callable[[Path], None]:
    picture = image if isinstance(image, Image.Image) else Image.fromarray(image)
    return lambda path: picture.save(path, **words)


def tiff(array: np.ndarray, **words: object) -> Callable[[Path], None]:
    return lambda path: tifffile.imwrite(path, array, **words)


def named(suffix: str, write: Callable[[Path], None]) -> Callable[[Path], None]:
    """Write under the suffix that `write` needs, and give the file another name."""

    def rename(path: Path) -> None:
        other = path.with_name("other" + suffix)
        write(other)
        other.rename(path)

    return rename


def frames(path: Path) -> None:
    first, *rest = [Image.fromarray(np.full((ROWS, COLS), value, np.uint8)) for value in (40, 90, 200)]
    first.save(path, save_all=True, append_images=rest)


def npz(path: Path) -> None:
    np.savez_compressed(path, picture=DEEP)


FLAT = RGB.copy()
FLAT[:] = (200, 40, 90)
OVER_BLACK = np.rint(RGB * (ALPHA[..., None] / 255)).astype(np.uint8)
DEEP_COLOUR = RGBN[..., :3]

# file -> what writes it, the array that read_image gives or its (H, W, 3) uint8 as shown, and how far it may be off
PICTURES: dict[str, tuple[Callable[[Path], None], np.ndarray, float]] = {
    "grey.png": (saved(GREY), GREY, 0),
    "sixteen bits.png": (saved(DEEP), DEEP, 0),
    "one bit.png": (saved(Image.fromarray(GREY).point(lambda value: 255 * (value > 90), "1")), GREY > 90, 0),
    "one bit.tif": (saved(Image.fromarray(GREY).point(lambda value: 255 * (value > 90), "1")), GREY > 90, 0),
    "fax.tif": (
        saved(Image.fromarray(GREY).point(lambda value: 255 * (value > 90), "1"), compression="group4"), GREY > 90, 0,
    ),
    "palette.png": (saved(palette()), np.reshape(COLOURS, (-1, 3))[INDEX].astype(np.uint8), 0),
    "palette.tif": (saved(palette()), np.reshape(COLOURS, (-1, 3))[INDEX].astype(np.uint8), 0),
    "palette lzw.tif": (
        saved(palette(), compression="tiff_lzw"), np.reshape(COLOURS, (-1, 3))[INDEX].astype(np.uint8), 0,
    ),
    "grey and alpha.png": (saved(np.dstack([GREY, ALPHA])), OVER_BLACK[..., :1].repeat(3, axis=2), 0),
    "grey and alpha.tif": (saved(np.dstack([GREY, ALPHA])), OVER_BLACK[..., :1].repeat(3, axis=2), 0),
    "rgba.png": (saved(np.dstack([RGB, ALPHA])), OVER_BLACK, 0),
    "rgba.tif": (tiff(np.dstack([RGB, ALPHA]), photometric="rgb", extrasamples=["unassalpha"]), OVER_BLACK, 0),
    "rgba.npy": (lambda path: np.save(path, np.dstack([RGB, ALPHA])), OVER_BLACK, 0),
    "colour.jpg": (saved(FLAT, quality=95), FLAT, 2),
    "grey.jpg": (saved(np.full((ROWS, COLS), 77, np.uint8)), np.full((ROWS, COLS), 77, np.uint8), 1),
    "cmyk.jpg": (saved(Image.fromarray(FLAT).convert("CMYK"), quality=95), FLAT, 4),
    "cmyk.tif": (saved(Image.fromarray(RGB).convert("CMYK")), RGB, 1),
    "cmyk lzw.tif": (saved(Image.fromarray(RGB).convert("CMYK"), compression="tiff_lzw"), RGB, 1),
    "ycbcr.tif": (saved(Image.fromarray(FLAT).convert("YCbCr")), FLAT, 2),
    "rgb and near infrared.tif": (tiff(RGBN), DEEP_COLOUR, 0),
    "rgb and near infrared, said.tif": (tiff(RGBN, photometric="rgb", extrasamples=["unspecified"]), DEEP_COLOUR, 0),
    "rgb and near infrared, grey.tif": (tiff(RGBN, photometric="minisblack", planarconfig="contig"), DEEP_COLOUR, 0),
    "rgb and near infrared, planar.tif": (tiff(np.moveaxis(RGBN, 2, 0), photometric="rgb"), DEEP_COLOUR, 0),
    "rgb and near infrared.npy": (lambda path: np.save(path, RGBN), DEEP_COLOUR, 0),
    "rgb and two more.tif": (tiff(np.dstack([RGBN, NIR]), photometric="rgb"), DEEP_COLOUR, 0),
    "planar.tif": (tiff(np.moveaxis(RGB, 2, 0), photometric="rgb", planarconfig="separate"), RGB, 0),
    "planar.npy": (lambda path: np.save(path, np.moveaxis(RGB, 2, 0)), RGB, 0),
    "one plane.tif": (tiff(DEEP[None]), DEEP, 0),
    "one plane.npy": (lambda path: np.save(path, DEEP[None, None]), DEEP, 0),
    "one channel.npy": (lambda path: np.save(path, DEEP[..., None]), DEEP, 0),
    "one row.npy": (lambda path: np.save(path, DEEP[:1]), DEEP[:1], 0),
    "one row.tif": (tiff(DEEP[:1]), DEEP[:1], 0),
    "float with nan.tif": (tiff(FLOAT), FLOAT, 0),
    "float64.tif": (tiff(FLOAT.astype(float)), FLOAT.astype(float), 0),
    "half.tif": (tiff(FLOAT.astype(np.float16)), FLOAT.astype(np.float16), 0),
    "int32.tif": (tiff(-DEEP.astype(np.int32)), -DEEP.astype(np.int32), 0),
    "big-endian.tif": (tiff(DEEP, byteorder=">"), DEEP, 0),
    "big-endian.npy": (lambda path: np.save(path, FLOAT.astype(">f4")), FLOAT, 0),
    "white is zero.tif": (tiff(GREY, photometric="miniswhite"), 255 - GREY, 0),
    "bigtiff.tif": (tiff(DEEP, bigtiff=True), DEEP, 0),
    "tiled.tif": (tiff(DEEP, tile=(16, 16)), DEEP, 0),
    "deflate.tif": (tiff(DEEP, compression="zlib", predictor=True), DEEP, 0),
    "lzw.tif": (saved(DEEP, compression="tiff_lzw"), DEEP, 0),
    "lzw float.tif": (saved(FLOAT, compression="tiff_lzw"), FLOAT, 0),
    "jpeg.tif": (saved(FLAT, compression="jpeg", quality=95), FLAT, 2),
    "ome.ome.tif": (tiff(DEEP, ome=True), DEEP, 0),
    "imagej.tif": (tiff(DEEP, imagej=True), DEEP, 0),
    "colour ome.ome.tif": (tiff(RGB, photometric="rgb", ome=True), RGB, 0),
    "bitmap.bmp": (saved(RGB), RGB, 0),
    "portable.ppm": (saved(RGB), RGB, 0),
    "float.pfm": (saved(DEEP.astype(np.float32)), DEEP.astype(np.float32), 0),
    "lossless.webp": (saved(RGB, lossless=True), RGB, 0),
    "still.gif": (saved(palette()), np.reshape(COLOURS, (-1, 3))[INDEX].astype(np.uint8), 0),
    "jpeg2000.jp2": (saved(RGB), RGB, 0),
    "one array.npz": (npz, DEEP, 0),
    "png.tif": (named(".png", saved(DEEP)), DEEP, 0),
    "tiff.jpg": (named(".tif", tiff(DEEP)), DEEP, 0),
    "numpy.png": (named(".npy", lambda path: np.save(path, DEEP)), DEEP, 0),
    "no suffix": (named(".png", saved(DEEP)), DEEP, 0),
    "with space, Größe, 細胞.png": (saved(DEEP), DEEP, 0),
    "UPPER.TIF": (tiff(DEEP), DEEP, 0),
}  # fmt: skip


@pytest.mark.parametrize("name", PICTURES)
def test_pictures_are_read_as_they_look(tmp_path: Path, name: str) -> None:
    write, expected, off = PICTURES[name]
    if name.endswith(("webp", "jp2")) and not features.check(
        {"webp": "webp", "jp2": "jpg_2000"}[name.rsplit(".", maxsplit=1)[-1]]
    ):
        pytest.skip("this Pillow was built without it")
    write(tmp_path / name)
    picture = read_image(tmp_path / name)
    assert picture.dtype.isnative
    shown = to_rgb(picture)
    if picture.ndim == 2:
        assert picture.dtype == expected.dtype
        np.testing.assert_allclose(picture, expected, rtol=0, atol=off)
    np.testing.assert_allclose(shown.astype(int), to_rgb(expected).astype(int), rtol=0, atol=off)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif", "lzw.tif"])
def test_pictures_are_turned_upright(tmp_path: Path, orientation: int, suffix: str) -> None:
    # a picture with a bright corner at the top left, stored as a camera held in another way would
    upright = np.full((48, 32), 30, np.uint8)
    upright[:8, :8] = 220
    undo = {1: None, 2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}[orientation]
    stored = Image.fromarray(upright)
    if undo is not None:
        stored = stored.transpose(Image.Transpose(undo))
    path = tmp_path / f"phone{suffix}"
    if suffix == ".tif":
        tifffile.imwrite(path, np.asarray(stored), extratags=[(274, "H", 1, orientation, True)])
    else:
        exif = Image.Exif()
        exif[274] = orientation
        words = {"compression": "tiff_lzw"} if suffix == "lzw.tif" else {"lossless": True} if suffix == ".webp" else {}
        stored.save(path, exif=exif, **words)
    shown = to_rgb(read_image(path))[..., 0].astype(int)
    assert shown.shape == (48, 32)
    assert np.abs(shown - upright).max() <= 12


def pages(path: Path) -> None:
    tifffile.imwrite(path, NOISE)


SEVERAL: dict[str, tuple[Callable[[Path], None], list[np.ndarray], str]] = {
    "stack.tif": (tiff(NOISE, photometric="minisblack"), list(NOISE), "5 pages; the first, page 0"),
    "imagej.tif": (
        tiff(NOISE[:4].reshape(2, 2, ROWS, COLS), imagej=True, metadata={"axes": "ZCYX"}), list(NOISE[:4]), "4 pages",
    ),
    "ome.ome.tif": (
        tiff(NOISE[:3], ome=True, metadata={"axes": "CYX"}, photometric="minisblack"), list(NOISE[:3]), "3 pages",
    ),
    "interleaved.tif": (
        tiff(np.moveaxis(NOISE, 0, 2), photometric="minisblack", planarconfig="contig"), list(NOISE), "5 pages",
    ),
    "colour pages.tif": (
        tiff(np.stack([RGB, 255 - RGB]), photometric="rgb"), [RGB, 255 - RGB], "2 pages; the first",
    ),
    "lzw pages.tif": (
        lambda path: Image.fromarray(NOISE[0]).save(
            path, save_all=True, append_images=[Image.fromarray(NOISE[1])], compression="tiff_lzw"
        ),
        list(NOISE[:2]), "2 pages",
    ),
    "stack.npy": (lambda path: np.save(path, NOISE), list(NOISE), "5 planes"),
    "colours.npy": (lambda path: np.save(path, np.stack([RGB, 255 - RGB])), [RGB, 255 - RGB], "2 planes"),
    "moving.gif": (frames, [np.full((ROWS, COLS, 3), value, np.uint8) for value in (40, 90, 200)], "3 frames"),
    "moving.png": (frames, [np.full((ROWS, COLS), value, np.uint8) for value in (40, 90, 200)], "3 frames"),
}  # fmt: skip


@pytest.mark.parametrize("name", SEVERAL)
def test_of_several_pages_one_is_read_and_that_is_said(tmp_path: Path, name: str) -> None:
    write, expected, said = SEVERAL[name]
    path = tmp_path / name
    write(path)
    told: list[str] = []
    np.testing.assert_array_equal(to_rgb(read_image(path, tell=told.append)), to_rgb(expected[0]))
    assert len(told) == 1
    assert said in told[0]
    for number, page in enumerate(expected):
        np.testing.assert_array_equal(to_rgb(read_image(path, number, told.append)), to_rgb(page))
    assert len(told) == 1  # who asks for a page need not be told
    with pytest.raises(ValueError, match=f"has no page {len(expected)}: it has {len(expected)} .*, counted from 0"):
        read_image(path, len(expected))


def test_images_of_different_sizes_in_one_file(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        writer.write(DEEP)
        writer.write(DEEP[::4, ::4])
    told: list[str] = []
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif", tell=told.append), DEEP)
    assert len(told) == 1
    assert "2 images of different kinds; the first is used" in told[0]


LABELS: dict[str, tuple[Callable[[Path], None], np.ndarray]] = {
    "palette.png": (saved(palette()), INDEX),
    "palette.tif": (saved(palette()), INDEX),
    "palette lzw.tif": (saved(palette(), compression="tiff_lzw"), INDEX),
    "palette.gif": (saved(palette()), INDEX),
    "grey.png": (saved(INDEX), INDEX),
    "sixteen bits.png": (saved(DEEP), DEEP),
    "one bit.png": (saved(Image.fromarray(INDEX).point(lambda value: 255 * (value > 1), "1")), INDEX > 1),
    "opaque alpha.png": (saved(np.dstack([INDEX, np.full_like(INDEX, 255)])), INDEX),
    "int32.tif": (tiff(DEEP.astype(np.int32)), DEEP.astype(np.int32)),
    "uint32 lzw.tif": (saved(Image.fromarray(DEEP.astype(np.int32)), compression="tiff_lzw"), DEEP.astype(np.int32)),
    "one plane.tif": (tiff(DEEP[None]), DEEP),
    "one channel.npy": (lambda path: np.save(path, DEEP[..., None]), DEEP),
    "big-endian.tif": (tiff(DEEP, byteorder=">"), DEEP),
    "white is zero.tif": (tiff(INDEX, photometric="miniswhite"), INDEX),
    "one array.npz": (npz, DEEP),
    "one row.tif": (tiff(DEEP[:1]), DEEP[:1]),
}


@pytest.mark.parametrize("name", LABELS)
def test_labels_keep_their_numbers(tmp_path: Path, name: str) -> None:
    write, expected = LABELS[name]
    write(tmp_path / name)
    np.testing.assert_array_equal(read_labels(tmp_path / name), expected)


NO_LABELS: dict[str, tuple[Callable[[Path], None], str]] = {
    "colours.png": (saved(RGB), "it holds colours, not label numbers"),
    "grey colours.png": (saved(np.dstack([INDEX] * 3)), "it holds colours"),
    "rgba.png": (saved(np.dstack([RGB, ALPHA])), "it holds colours"),
    "alpha.png": (saved(np.dstack([INDEX, ALPHA])), "it holds colours"),
    "colours.tif": (tiff(RGB, photometric="rgb"), "it holds colours"),
    "planar.tif": (tiff(np.moveaxis(RGB, 2, 0), photometric="rgb", planarconfig="separate"), "it holds colours"),
    "grey.jpg": (saved(INDEX), "JPEG changes their numbers"),
    "colour.jpg": (saved(RGB), "it holds colours"),
    "jpeg.tif": (saved(INDEX, compression="jpeg"), "JPEG changes their numbers"),
    "float.tif": (tiff(INDEX.astype(np.float32)), "got float32"),
    "stack.tif": (tiff(NOISE, photometric="minisblack"), r"got uint16 of shape \(5, 40, 60\)"),
    "stack.npy": (lambda path: np.save(path, NOISE), r"got uint16 of shape \(5, 40, 60\)"),
    "colours.npy": (lambda path: np.save(path, RGB), r"got uint8 of shape \(40, 60, 3\)"),
}


@pytest.mark.parametrize("name", NO_LABELS)
def test_what_cannot_be_labels_is_refused(tmp_path: Path, name: str) -> None:
    write, said = NO_LABELS[name]
    write(tmp_path / name)
    with pytest.raises(ValueError, match=said) as told:
        read_labels(tmp_path / name)
    assert str(told.value).startswith(f"{tmp_path / name} cannot be used as labels: ")
    assert "\n" not in str(told.value)


def test_depth_is_read_as_numbers(tmp_path: Path) -> None:
    for name in ("white is zero.tif", "sixteen bits.png", "lzw.tif", "float with nan.tif", "one plane.npy"):
        write, expected, _ = PICTURES[name]
        write(tmp_path / name)
        expected = GREY if name.startswith("white") else expected
        np.testing.assert_array_equal(read_depth(tmp_path / name, "height").values, expected.astype(np.float32))


@pytest.mark.parametrize(
    "name", ["colour.jpg", "rgba.tif", "planar.tif", "cmyk.tif", "palette.png", "palette.tif", "palette lzw.tif"]
)
def test_colours_are_no_depth(tmp_path: Path, name: str) -> None:
    PICTURES[name][0](tmp_path / name)
    with pytest.raises(ValueError, match="cannot be used as depth: it holds colours"):
        read_depth(tmp_path / name, "height")


def cut(write: Callable[[Path], None], share: float) -> Callable[[Path], None]:
    def write_part(path: Path) -> None:
        write(path)
        content = path.read_bytes()
        path.write_bytes(content[: int(share * len(content))])

    return write_part


def two_arrays(path: Path) -> None:
    np.savez(path, first=GREY, second=DEEP)


SPECKLED = np.random.default_rng(2).integers(0, 255, (90, 90, 3)).astype(np.uint8)
SENTENCE = "cannot be read as an image; give a TIFF, PNG, JPEG or .npy file."
CUT = "cannot be read as an image: it is cut short or damaged; copy or save it again."
BROKEN: dict[str, tuple[Callable[[Path], None], str]] = {
    "empty.png": (lambda path: path.write_bytes(b""), "is empty; give an image file."),
    "empty.tif": (lambda path: path.write_bytes(b""), "is empty; give an image file."),
    "text.png": (lambda path: path.write_text("no image"), SENTENCE),
    "text.npy": (lambda path: path.write_text("no image"), SENTENCE),
    "short.jpg": (cut(saved(SPECKLED), 0.5), CUT),
    "short.png": (cut(saved(SPECKLED), 0.5), CUT),
    "short.webp": (cut(saved(SPECKLED, lossless=True), 0.5), "cannot be read as an image"),
    "short.gif": (cut(saved(SPECKLED[..., 0]), 0.5), CUT),
    "short.tif": (cut(tiff(SPECKLED), 0.5), CUT),
    "short lzw.tif": (cut(saved(SPECKLED, compression="tiff_lzw"), 0.5), "cannot be read as an image"),
    "shorter.tif": (cut(tiff(SPECKLED), 0.005), "cannot be read as an image"),
    "header.tif": (lambda path: path.write_bytes(b"II*\0\x08\0\0\0"), "cannot be read as an image"),
    "magic.tif": (lambda path: path.write_bytes(b"II*\0"), "cannot be read as an image"),
    "short.npy": (cut(lambda path: np.save(path, DEEP), 0.5), "cannot be read as an image"),
    "short.npz": (cut(npz, 0.5), CUT),
    "two.npz": (two_arrays, r"must hold one array, got 2 \(first, second\); save one as .npy."),
    "none.npz": (np.savez, r"must hold one array, got 0 \(none\)"),
    "objects.npy": (lambda path: np.save(path, np.array([{}], object), allow_pickle=True), SENTENCE),
    "phone.heic": (
        lambda path: path.write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(200)),
        "is a HEIC picture, which cannot be read here; save it as a JPEG, PNG or TIFF.",
    ),
    "drawing.eps": (lambda path: path.write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"), SENTENCE),
    "lab.tif": (saved(Image.fromarray(RGB).convert("LAB")), "holds colours of the kind CIELAB; save it as RGB."),
    "dark.png": (
        lambda path: path.write_bytes(dark_deep_png()),
        "is a colour PNG of 16 bits that is nearly black in 8; save it as a TIFF.",
    ),
    "folder": (lambda path: path.mkdir(), "is a folder; give the name of an image in it."),
    "absent.tif": (lambda path: None, "There is no file"),
    "a" * 256: (lambda path: None, "cannot be read: File name too long"),
    "packed.tif": (
        lambda path: path.write_bytes(with_compression(34712)),
        "is compressed in a way that needs one more package; install it with `pip install imagecodecs`.",
    ),
}  # fmt: skip


def dark_deep_png() -> bytes:
    """A PNG of 2 x 2 pixels with 16 bits in each of three channels, none above 4000."""
    import struct
    import zlib

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    lines = (b"\0" + np.full(6, 4000, ">u2").tobytes()) * 2
    header = struct.pack(">IIBBBBB", 2, 2, 16, 2, 0, 0, 0)
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


def with_compression(code: int) -> bytes:
    """An uncompressed TIFF that says to be compressed in another way."""
    from io import BytesIO

    stream = BytesIO()
    tifffile.imwrite(stream, DEEP, metadata=None)
    content = bytearray(stream.getvalue())
    with tifffile.TiffFile(BytesIO(content)) as file:
        place = file.pages[0].tags["Compression"].valueoffset
    content[place : place + 2] = code.to_bytes(2, "little")
    return bytes(content)


@pytest.mark.parametrize("name", BROKEN)
@pytest.mark.parametrize("read", [read_image, read_labels])
def test_what_cannot_be_read_is_refused_in_a_sentence(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], name: str, read: Callable[[Path], object]
) -> None:
    write, said = BROKEN[name]
    if read is read_labels and name in ("lab.tif", "dark.png"):
        said = "it holds colours"
    write(tmp_path / name)
    with pytest.raises(ValueError, match=said) as told:  # warnings are errors
        read(tmp_path / name)
    assert name in str(told.value)
    assert "\n" not in str(told.value)
    out, err = capfd.readouterr()
    assert (out, err) == ("", "")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names")
def test_a_pipe_is_no_image(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ValueError, match="is a pipe or a device"):
        read_image(tmp_path / "pipe")


def test_a_file_that_may_not_be_read_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.png").write_bytes(b"x")

    def refuse(path: Path, *_: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "open", refuse)  # root may read anything
    with pytest.raises(ValueError, match=r"a\.png cannot be read: Permission denied; check its name"):
        read_image(tmp_path / "a.png")


def test_too_little_memory_is_not_a_broken_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tifffile.imwrite(tmp_path / "a.tif", DEEP)

    def fail(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr(tifffile.TiffPage, "asarray", fail)
    with pytest.raises(MemoryError):
        read_image(tmp_path / "a.tif")

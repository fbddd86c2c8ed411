"""Decoding: which files are opened, and what becomes of pixels of every kind."""

import io
import struct
import subprocess
import zlib

import numpy as np
import PIL.Image
import pytest

from jaxhash.data.load import load_source
from jaxhash.data.readers.images import (
    FORMATS,
    Resize,
    guess_white_levels,
    image_suffixes,
    read_image,
    try_read_image,
)
from jaxhash.utils.errors import UserError


def decode(path, image_size=None):
    """Returns the pixels of an image."""
    return read_image(path, image_size).pixels


def pixels(seed, height=6, width=6):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3)).astype(np.uint8)


def write(path, image, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    PIL.Image.fromarray(image).save(path, **options)


def png_of_16_bits(path, values, chunk=b""):
    """A PNG whose channels have 16 bits, which Pillow does not write in colors."""
    kind = {1: 0, 2: 4, 3: 2, 4: 6}[values.shape[2]]

    def block(name, content):
        return (
            struct.pack(">I", len(content))
            + name
            + content
            + struct.pack(">I", zlib.crc32(name + content))
        )

    height, width = values.shape[:2]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + block(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, kind, 0, 0, 0))
        + chunk
        + block(b"IDAT", zlib.compress(rows))
        + block(b"IEND", b"")
    )


@pytest.mark.parametrize(("height", "width"), [(12, 20), (20, 12), (9, 6), (6, 6), (3, 5)])
def test_the_middle_at_the_size_asked_for(tmp_path, height, width):
    """Whole margins: the same as to cut the middle square out and then to resize it."""
    image = pixels(0, height, width)
    image[:] = np.arange(height)[:, None, None] * 3 + np.arange(width)[:, None] * 5
    write(tmp_path / "a.png", image)
    side = min(height, width)
    top, left = (height - side) / 2, (width - side) / 2
    resized = PIL.Image.fromarray(image).resize(
        (6, 6), PIL.Image.Resampling.BILINEAR, box=(left, top, left + side, top + side)
    )
    result = decode(tmp_path / "a.png", 6)
    assert result.shape == (6, 6, 3) and result.dtype == np.uint8
    np.testing.assert_array_equal(result, resized)
    scale, places = side / 6, np.arange(1, 5)  # the inner pixels of a plane lie on it
    centers = (places + 0.5) * scale - 0.5
    plane = (centers + top)[:, None] * 3 + (centers + left) * 5
    np.testing.assert_allclose(result[1:5, 1:5, 0], plane, atol=1.01 + 8 * (side < 6))


def test_a_share_of_the_middle(tmp_path):
    """The pixels themselves where nothing is scaled: 7/8 of 64 at a size of 56."""
    image = pixels(0, 64, 82)
    write(tmp_path / "a.png", image)
    found = decode(tmp_path / "a.png", Resize(56, 7 / 8, "bicubic"))
    np.testing.assert_array_equal(found, image[4:60, 13:69])


def test_the_published_rule_of_a_margin(tmp_path):
    """To resize the shorter side to 64, and then to cut the middle 56 out of it."""
    y, x = np.mgrid[:160, :200] / 4
    image = np.stack([np.sin(x), np.cos(y), np.sin(x + y)], -1)
    write(tmp_path / "a.png", ((image + 1) * 127).astype(np.uint8))
    whole = PIL.Image.open(tmp_path / "a.png").resize((80, 64), PIL.Image.Resampling.BICUBIC)
    found = decode(tmp_path / "a.png", Resize(56, 7 / 8, "bicubic"))
    np.testing.assert_array_equal(found, np.asarray(whole)[4:60, 12:68])
    assert (decode(tmp_path / "a.png", Resize(56, 7 / 8, "bilinear")) != found).any()


def test_a_large_jpeg_at_a_small_size(tmp_path):
    """Decoded at a fraction of its resolution it hardly differs."""
    y, x = np.mgrid[:512, :640] / 4
    image = np.stack([np.sin(x), np.cos(y), np.sin(x + y)], -1)
    write(tmp_path / "a.jpg", ((image + 1) * 127).astype(np.uint8), quality=95)
    with PIL.Image.open(tmp_path / "a.jpg") as whole:
        whole.convert("RGB").save(tmp_path / "a.png")
    small, exact = (decode(tmp_path / f"a.{kind}", 128).astype(int) for kind in ("jpg", "png"))
    assert abs(small - exact).max() <= 12


@pytest.mark.parametrize("mode", ["L", "1", "P", "RGBA", "LA", "CMYK"])
def test_all_kinds_of_pixels_become_rgb(tmp_path, mode):
    suffix = "tif" if mode == "CMYK" else "png"
    grey = PIL.Image.fromarray(np.eye(4, dtype=np.uint8) * 255)
    grey.convert("RGB").convert(mode).save(tmp_path / f"a.{suffix}")
    expected = np.eye(4, dtype=np.uint8)[..., None] * np.full(3, 255, np.uint8)
    np.testing.assert_array_equal(decode(tmp_path / f"a.{suffix}"), expected)


def test_16_bits_of_grey_keep_their_upper_half(tmp_path):
    grey = np.array([[0, 255, 256], [30_000, 65_535, 300]], np.uint16)
    PIL.Image.fromarray(grey).save(tmp_path / "a.png")
    np.testing.assert_array_equal(decode(tmp_path / "a.png")[..., 1], grey >> 8)


def test_the_first_frame(tmp_path):
    frames = [PIL.Image.new("RGB", (4, 4), color) for color in ("red", "blue")]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    np.testing.assert_array_equal(decode(tmp_path / "a.gif")[0, 0], [255, 0, 0])
    assert read_image(tmp_path / "a.gif").remarks == ("frames",)
    frames[0].save(tmp_path / "b.gif")
    assert read_image(tmp_path / "b.gif").remarks == ()


# Formats

#: Suffixes of the formats that Pillow writes as well as reads, with less of a loss than this.
LOSSES = {
    **dict.fromkeys(
        ("png", "PNG", "apng", "bmp", "dib", "ppm", "pnm", "tif", "TIFF", "tga", "pcx"), 0
    ),
    **dict.fromkeys(("sgi", "rgb", "im", "webp", "jp2", "j2k", "dds", "qoi"), 0),
    **dict.fromkeys(("jpg", "JPEG", "jfif", "jpe", "avif", "gif"), 20),
}


@pytest.mark.parametrize("suffix", LOSSES)
def test_formats(tmp_path, suffix):
    options = {"webp": {"lossless": True}}.get(suffix, {})
    image = np.full((64, 64, 3), 200, np.uint8)
    image[:32] = [30, 60, 90]
    try:
        write(tmp_path / "set" / "a" / f"a.{suffix}", image, **options)
    except (KeyError, ValueError, OSError) as error:
        pytest.skip(f"this Pillow does not write {suffix}: {error}")
    source = load_source(f"folder:{tmp_path / 'set'}")
    found = source.inputs[0].astype(int)
    np.testing.assert_allclose(found[::63, ::63], image[::63, ::63], atol=LOSSES[suffix])
    assert source.notes == ()


@pytest.mark.parametrize("suffix", ["pgm", "pbm", "xbm", "msp", "ico", "icns"])
def test_formats_of_other_pixels(tmp_path, suffix):
    size, mode = (64, 64), "1" if suffix in ("pbm", "xbm", "msp") else "L"
    mode = "RGB" if suffix.startswith("ic") else mode
    PIL.Image.new(mode, size, "white").save(tmp_path / f"a.{suffix}")
    assert decode(tmp_path / f"a.{suffix}").min() == 255 and f".{suffix}" in image_suffixes()


def test_formats_that_are_not_opened(tmp_path, monkeypatch):
    """Whatever the file is called, no other program is started."""

    def start(*arguments, **options):
        raise AssertionError("a program was started")

    monkeypatch.setattr(subprocess, "Popen", start)
    assert not image_suffixes() & {".eps", ".ps", ".wmf", ".emf", ".mpg", ".h5", ".grib", ".iim"}
    assert not FORMATS & {"EPS", "WMF", "IPTC", "MPEG", "HDF5", "BUFR", "GRIB"}
    page = io.BytesIO()
    PIL.Image.new("RGB", (6, 6)).save(page, "eps")
    for suffix in ("png", "eps", "jpg"):
        (tmp_path / f"a.{suffix}").write_bytes(page.getvalue())
        assert try_read_image(tmp_path / f"a.{suffix}", None) == "not an image of a known format"


# Orientation, transparency, depth

TAKEN = {  # what is stored where this is to be seen, by the number of the orientation
    1: lambda x: x,
    2: lambda x: x[:, ::-1],
    3: lambda x: x[::-1, ::-1],
    4: lambda x: x[::-1],
    5: lambda x: x.transpose(1, 0, 2),
    6: lambda x: np.rot90(x),
    7: lambda x: x[::-1, ::-1].transpose(1, 0, 2),
    8: lambda x: np.rot90(x, -1),
}


@pytest.mark.parametrize("orientation", TAKEN)
@pytest.mark.parametrize("suffix", ["png", "tif", "webp", "jpg"])
def test_orientation(tmp_path, orientation, suffix):
    seen = np.zeros((64, 48, 3), np.uint8)
    seen[:32, :24], seen[:32, 24:], seen[32:, :24] = [255, 0, 0], [0, 0, 255], 255
    exif = PIL.Image.Exif()
    exif[0x0112] = orientation
    stored = np.ascontiguousarray(TAKEN[orientation](seen))
    options = {"webp": {"lossless": True}, "jpg": {"quality": 95, "subsampling": 0}}.get(suffix, {})
    write(tmp_path / f"a.{suffix}", stored, exif=exif, **options)
    found = decode(tmp_path / f"a.{suffix}").astype(int)
    np.testing.assert_allclose(found, seen, atol=60 if suffix == "jpg" else 0)
    assert decode(tmp_path / f"a.{suffix}", 8)[0, 0].argmax() == 0  # red, at a fraction of the size


@pytest.mark.parametrize("orientation", TAKEN)
@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "CMYK", "I;16", "F"])
def test_orientation_of_tiff_of_every_kind(tmp_path, orientation, mode):
    """Those that Pillow could map into memory too."""
    seen = np.zeros((8, 6), np.uint8)
    seen[:4, :3], seen[:4, 3:], seen[4:, :3] = 51, 119, 255
    exif = PIL.Image.Exif()
    exif[0x0112] = orientation
    stored = np.ascontiguousarray(TAKEN[orientation](seen[..., None])[..., 0])
    image = PIL.Image.fromarray(stored.astype(np.uint16) * 257 if mode == "I;16" else stored)
    image = image if mode == "I;16" else image.convert(mode)
    image.save(tmp_path / "a.tif", exif=exif)
    np.testing.assert_array_equal(decode(tmp_path / "a.tif"), np.stack([seen] * 3, axis=-1))


@pytest.mark.parametrize("orientation", [0, 9, 77])
def test_orientations_that_there_are_not(tmp_path, orientation):
    exif = PIL.Image.Exif()
    exif[0x0112] = orientation
    write(tmp_path / "a.png", pixels(0), exif=exif)
    np.testing.assert_array_equal(decode(tmp_path / "a.png"), pixels(0))


@pytest.mark.parametrize(
    "kind", ["RGBA", "LA", "PA", "P", "RGB key", "L key", "I;16 key", "RGBA 16"]
)
def test_transparent_pixels_are_white(tmp_path, kind):
    """The color under transparent pixels is not seen; half transparency mixes halves."""
    path = tmp_path / "a.png"
    rgba = np.zeros((2, 2, 4), np.uint8)
    rgba[..., :3], rgba[0, :, 3], rgba[1, 0, 3] = 100, 255, 128
    if kind in ("RGBA", "LA", "PA"):
        path = tmp_path / ("a.tif" if kind == "PA" else "a.png")
        PIL.Image.fromarray(rgba).convert(kind).save(path)
    elif kind == "P":
        image = PIL.Image.fromarray(np.array([[1, 1], [2, 0]], np.uint8), "P")
        image.putpalette([100] * 9)
        image.save(path, transparency=b"\x00\xff\x80")
    elif kind == "RGBA 16":
        png_of_16_bits(path, rgba.astype(int) * 257)
    elif kind == "I;16 key":
        grey = np.full((2, 2), 100 * 257, np.uint16)
        grey[1, 1], grey[0, 0] = 7, 65_535
        PIL.Image.fromarray(grey).save(path, transparency=7)
    else:
        mode = kind.split()[0]
        image = PIL.Image.fromarray(rgba[..., :3]).convert(mode)
        image.putpixel((1, 1), 7 if mode == "L" else (7, 7, 7))
        image.save(path, transparency=7 if mode == "L" else (7, 7, 7))
    image = read_image(path)
    assert image.pixels[0, 1].tolist() == [100] * 3 and image.pixels[1, 1].tolist() == [255] * 3
    assert "transparent" in image.remarks
    if kind in ("RGBA", "LA", "P", "RGBA 16"):
        np.testing.assert_allclose(image.pixels[1, 0], 100 * 128 / 255 + 127, atol=1)


@pytest.mark.parametrize("exif", [b"nothing", b"II*\0\xff\xff\xff\xff", b"Exif\0\0MM\0*\0"])
def test_broken_exif_data_turn_nothing(tmp_path, exif):
    write(tmp_path / "a.png", pixels(0), exif=exif)
    np.testing.assert_array_equal(decode(tmp_path / "a.png"), pixels(0))


def test_an_alpha_that_hides_nothing_is_not_remarked(tmp_path):
    PIL.Image.fromarray(pixels(0)).convert("RGBA").save(tmp_path / "a.png")
    assert read_image(tmp_path / "a.png").remarks == ()
    np.testing.assert_array_equal(decode(tmp_path / "a.png"), pixels(0))


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
@pytest.mark.parametrize("kind", ["png", "tif", "I;16B", "int32", "jp2"])
def test_white_of_grey_of_more_than_8_bits(tmp_path, bits, kind):
    """It is the smallest usual one: 0 to 4,081 are 12 bits."""
    top = 2**bits - 1 - 2 ** (bits - 8)
    grey = np.linspace(0, top, 36).astype(np.uint16).reshape(6, 6)
    path = tmp_path / f"a.{kind if kind in ('png', 'jp2') else 'tif'}"
    image = PIL.Image.fromarray(grey.astype(np.int32) if kind == "int32" else grey)
    if kind == "I;16B":
        image = PIL.Image.frombytes("I;16B", (6, 6), grey.astype(">u2").tobytes())
    image.save(path)
    np.testing.assert_array_equal(decode(path)[..., 0], grey >> (bits - 8))


@pytest.mark.parametrize("top", [255, 4095, 65535])
def test_a_white_that_the_file_states_is_no_guess(tmp_path, top):
    """A PGM names its maximum; that nothing comes near it makes a dark image."""
    grey = np.array([[0, top // 16], [top // 8, top // 4]])
    values = grey.astype(np.uint8 if top == 255 else ">u2").tobytes()
    (tmp_path / "a.pgm").write_bytes(b"P5 2 2 %d\n" % top + values)
    image = read_image(tmp_path / "a.pgm")
    np.testing.assert_allclose(image.pixels[..., 0], grey / top * 255, atol=1.01)
    assert image.deep is None


@pytest.mark.parametrize(
    ("white", "values"),
    [(1.0, [0, 0.5, 1]), (1.0, [0, 0.25, 1.02]), (255.0, [0, 7.6, 254]), (65535.0, [0, 256, 4e4])],
)
def test_white_of_floats(tmp_path, white, values):
    PIL.Image.fromarray(np.array([values], np.float32)).save(tmp_path / "a.tif")
    image = read_image(tmp_path / "a.tif")
    expected = np.rint(np.minimum(np.array(values, np.float32) * (255 / white), 255))
    np.testing.assert_array_equal(image.pixels[0, :, 0], expected)
    assert image.deep[0] == "floats"


@pytest.mark.parametrize("values", [[-1.0, 1], [0, np.nan], [0, np.inf], [0, 1e6], [-3, 70]])
def test_grey_whose_range_is_not_known(tmp_path, values):
    dtype = np.int32 if values == [-3, 70] else np.float32
    PIL.Image.fromarray(np.array([values], dtype)).save(tmp_path / "a.tif")
    assert try_read_image(tmp_path / "a.tif", None).startswith("grey from ")


def test_white_is_that_of_the_whole_set(tmp_path):
    """A dark file among others stays as dark as it is."""
    bright, dark = np.full((4, 4), 4000, np.uint16), np.full((4, 4), 200, np.uint16)
    write(tmp_path / "a" / "0.png", dark)
    write(tmp_path / "b" / "0.png", bright)
    write(tmp_path / "b" / "1.png", np.full((4, 4, 3), 90, np.uint8))
    source = load_source(f"folder:{tmp_path}")
    assert source.inputs[:, 0, 0, 0].tolist() == [200 >> 4, 4000 >> 4, 90]
    [note] = source.notes
    assert note.startswith("2 images: ") and "none above 4,000, of which 4,095" in note
    assert note.endswith("; 1 hold none above 200, and stay as dark")


@pytest.mark.parametrize("channels", [2, 3, 4])
def test_colors_of_16_bits(tmp_path, channels):
    """Pillow reads their upper half. Where nothing stands there it is not guessed at."""
    values = np.full((4, 4, channels), 40_000)
    png_of_16_bits(tmp_path / "set" / "a" / "0.png", values // 16)
    with pytest.raises(UserError, match="colors of 16 bits a channel without a value above 4,095"):
        load_source(f"folder:{tmp_path / 'set'}")
    assert "colors of 16 bits" in try_read_image(tmp_path / "set" / "a" / "0.png", None)
    values[..., -1] = 65_535 if channels in (2, 4) else 40_000
    png_of_16_bits(tmp_path / "set" / "a" / "1.png", values)
    inputs = load_source(f"folder:{tmp_path / 'set'}").inputs
    assert inputs[1].max() == inputs[1].min() == 40_000 >> 8


def test_what_is_white_for_several_files():
    assert guess_white_levels([]) == {}
    assert guess_white_levels([("colors", 65_535), ("integers", 65_535)]) == dict.fromkeys(
        ("colors", "integers"), 65_535
    )

"""Image folders: what they hold, what is left out of them, and the line that says why."""

import os
import pickle

import numpy as np
import PIL.Image
import pytest

from jaxhash.data import folders
from jaxhash.data.augment import Augment
from jaxhash.data.folders import decode
from jaxhash.data.pipeline import training_batches
from jaxhash.data.sources import load_source
from jaxhash.errors import UserError


def pixels(seed, height=6, width=6):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3)).astype(np.uint8)


def write(path, image, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    PIL.Image.fromarray(image).save(path, **options)


def fill(folder, classes=("cat", "dog"), images=5):
    """Files of classes, and their pixels in the order of the files."""
    written = []
    for class_name in classes:
        for number in range(images):
            written.append(pixels(len(written)))
            write(folder / class_name / f"{number:03d}.png", written[-1])
    return np.stack(written)


def error_line(*arguments, **options):
    with pytest.raises(UserError) as caught:
        load_source(*arguments, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.fixture(params=["in memory", "lazily"])
def memory(request, monkeypatch):
    if request.param == "lazily":
        monkeypatch.setattr(folders, "MEMORY_LIMIT", 0)
    return request.param


def read(source):
    return source.inputs[np.arange(len(source.inputs))]


def test_folders_are_classes(tmp_path, memory):
    images = fill(tmp_path / "pets", classes=("dog", "cat"))
    source = load_source("folder:pets", tmp_path)
    assert isinstance(source.inputs, np.ndarray) == (memory == "in memory")
    assert source.class_names == ("cat", "dog") and source.part is None and source.left_out == ()
    np.testing.assert_array_equal(source.labels, np.repeat([0, 1], 5))
    np.testing.assert_array_equal(read(source), np.concatenate([images[5:], images[:5]]))
    for rows in (np.array([7, 0, 7]), slice(2), 3, np.int64(9)):
        np.testing.assert_array_equal(source.inputs[rows], read(source)[rows])


def test_a_folder_may_be_named_as_a_whole(tmp_path):
    images = fill(tmp_path)
    np.testing.assert_array_equal(read(load_source(f"folder:{tmp_path}")), images)


@pytest.mark.parametrize(
    ("parts", "is_test"),
    [
        (("train", "test"), [0, 1]),
        (("train", "val"), [0, 1]),
        (("train", "val", "test"), [0, 0, 1]),
        (("train",), None),
    ],
)
def test_parts_above_the_classes(tmp_path, parts, is_test):
    for part in parts:
        fill(tmp_path / part, images=2)
    source = load_source(f"folder:{tmp_path}")
    assert source.class_names == ("cat", "dog")
    np.testing.assert_array_equal(source.labels, [0, 0, 1, 1] * len(parts))
    if is_test is None:
        assert source.part is None
    else:
        np.testing.assert_array_equal(source.part, np.repeat(is_test, 4))


def test_a_class_may_be_called_test(tmp_path):
    fill(tmp_path, classes=("test", "toast"))
    source = load_source(f"folder:{tmp_path}")
    assert source.class_names == ("test", "toast") and source.part is None


@pytest.mark.parametrize("name", ["a.PNG", "a.bmp", "a.ppm", "a.webp", "a.gif", "a.jpg", "a.JPEG"])
def test_formats(tmp_path, name):
    image = np.full((6, 6, 3), 255, np.uint8)
    write(tmp_path / "white" / name, image)
    np.testing.assert_array_equal(read(load_source(f"folder:{tmp_path}")), image[None])


def test_what_is_not_looked_at(tmp_path):
    fill(tmp_path)
    write(tmp_path / "cat" / "more" / "z.png", pixels(99))
    write(tmp_path / "cat" / ".hidden.png", pixels(0))
    write(tmp_path / "cat" / ".thumbs" / "a.png", pixels(0))
    write(tmp_path / ".cache" / "a.png", pixels(0))
    write(tmp_path / "preview.png", pixels(0, height=9))
    (tmp_path / "cat" / "notes.txt").write_text("three cats")
    source = load_source(f"folder:{tmp_path}")
    np.testing.assert_array_equal(source.labels, [0] * 6 + [1] * 5)
    np.testing.assert_array_equal(read(source)[5], pixels(99))


# Decoding


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
    centres = (places + 0.5) * scale - 0.5
    plane = (centres + top)[:, None] * 3 + (centres + left) * 5
    np.testing.assert_allclose(result[1:5, 1:5, 0], plane, atol=1.01 + 8 * (side < 6))


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
    frames = [PIL.Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    np.testing.assert_array_equal(decode(tmp_path / "a.gif")[0, 0], [255, 0, 0])


def test_palettes_with_transparency(tmp_path):
    image = PIL.Image.new("P", (4, 4), 1)
    image.putpalette([0, 0, 0, 10, 20, 30])
    image.save(tmp_path / "a.png", transparency=b"\x00\x80")
    np.testing.assert_array_equal(decode(tmp_path / "a.png")[0, 0], [10, 20, 30])


# What cannot be read


def bomb(path, side=20_000):
    """A file that says it is huge."""
    path.write_bytes(f"P6 {side} {side} 255\n".encode() + bytes(100))


def spoil(path, how):
    if how == "truncated":
        path.write_bytes(path.read_bytes()[:-40])
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "text":
        path.write_text("404 not found")
    elif how == "bomb":
        bomb(path)
    else:
        bomb(path, side=10_000)


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ("truncated", ""),
        ("empty", "an empty file"),
        ("text", "not an image of a known format"),
        ("bomb", "more than 89,478,485 pixels"),
        ("small bomb", "more than 89,478,485 pixels"),
    ],
)
@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_one_of_200_images_is_left_out(tmp_path, memory, how, reason, suffix):
    images = fill(tmp_path, images=100)
    bad = tmp_path / "cat" / f"050.{suffix}"
    (tmp_path / "cat" / "050.png").unlink()
    write(bad, pixels(50))
    spoil(bad, how)
    source = load_source(f"folder:{tmp_path}")
    [line] = source.left_out
    assert line.startswith(f"cat/050.{suffix}: {reason}") and len(line) > 16
    np.testing.assert_array_equal(read(source), np.delete(images, 50, axis=0))
    np.testing.assert_array_equal(source.labels, np.repeat([0, 1], [99, 100]))


@pytest.mark.parametrize(
    ("images", "bad", "options", "allowed"),
    [
        (100, 2, {}, True),  # of 200
        (100, 3, {}, False),
        (5, 1, {}, True),
        (5, 2, {}, False),
        (5, 1, {"most_bad": 0.0}, False),
        (5, 3, {"most_bad": 0.3}, True),
        (50, 29, {"most_bad": 0.29}, True),
    ],
)
def test_how_many_may_be_left_out(tmp_path, images, bad, options, allowed):
    fill(tmp_path, images=images)
    for number in range(bad):
        spoil(tmp_path / "dog" / f"{number:03d}.png", "text")
    if allowed:
        assert len(load_source(f"folder:{tmp_path}", **options).left_out) == bad
        return
    line = error_line(f"folder:{tmp_path}", **options)
    assert f"{bad} of {2 * images} images cannot be read, {bad / (2 * images):.1%}" in line
    assert "dog/000.png: not an image of a known format" in line


def test_of_many_bad_images_the_first_are_named(tmp_path):
    fill(tmp_path)
    for path in (tmp_path / "cat").iterdir():
        path.write_bytes(b"")
    line = error_line(f"folder:{tmp_path}")
    assert line.endswith("cat/002.png: an empty file and 2 more") and "at most 1 may" in line


def test_a_class_of_which_nothing_can_be_read(tmp_path):
    fill(tmp_path)
    write(tmp_path / "elk" / "a.png", pixels(0))
    spoil(tmp_path / "elk" / "a.png", "truncated")
    line = error_line(f"folder:{tmp_path}")
    assert f"class folder {tmp_path / 'elk'}: none of its images can be read" in line


def test_an_empty_class(tmp_path):
    fill(tmp_path)
    (tmp_path / "elk").mkdir()
    line = error_line(f"folder:{tmp_path}")
    assert line.endswith(f"class folder {tmp_path / 'elk'} holds no image")


def test_images_of_several_sizes(tmp_path, memory):
    fill(tmp_path)
    write(tmp_path / "dog" / "z.png", pixels(0, 4, 9))
    line = error_line(f"folder:{tmp_path}")
    assert "several sizes, 000.png 6 x 6 and z.png 9 x 4; --image-size N" in line
    source = load_source(f"folder:{tmp_path}", image_size=3)
    assert read(source).shape == (11, 3, 3, 3)
    np.testing.assert_array_equal(read(source)[10], decode(tmp_path / "dog" / "z.png", 3))


@pytest.mark.parametrize("content", ["nothing", "images", "missing"])
def test_a_folder_that_is_none(tmp_path, content):
    if content == "images":
        write(tmp_path / "a.png", pixels(0))
    name = "pets" if content == "missing" else "."
    said = "there is no folder" if content == "missing" else "holds no class folders"
    assert said in error_line(f"folder:{name}", tmp_path)


@pytest.mark.parametrize("change", ["deleted", "truncated", "another size"])
def test_a_file_that_changes_later(tmp_path, monkeypatch, change):
    monkeypatch.setattr(folders, "MEMORY_LIMIT", 0)
    fill(tmp_path)
    source = load_source(f"folder:{tmp_path}")
    path = tmp_path / "cat" / "003.png"
    if change == "deleted":
        path.unlink()
    elif change == "truncated":
        spoil(path, "truncated")
    else:
        write(path, pixels(0, 5, 6))
    source.inputs[np.array([2, 4])]
    with pytest.raises(UserError, match="when the folder was opened") as caught:
        source.inputs[np.array([2, 3])]
    assert str(caught.value).startswith(f"{path}: ")


def test_the_folder_is_left_as_it_is(tmp_path, memory):
    fill(tmp_path)
    before = [(str(path), os.stat(path).st_mtime_ns) for path in sorted(tmp_path.rglob("*"))]
    load_source(f"folder:{tmp_path}")
    assert [(str(p), os.stat(p).st_mtime_ns) for p in sorted(tmp_path.rglob("*"))] == before


def test_workers_read_files(tmp_path, monkeypatch):
    monkeypatch.setattr(folders, "MEMORY_LIMIT", 0)
    images = fill(tmp_path)
    source = load_source(f"folder:{tmp_path}")
    again = pickle.loads(pickle.dumps(source.inputs))
    np.testing.assert_array_equal(again[np.arange(10)], images)
    options = dict(batch_size=5, seed=0, augment=Augment(), workers=1)
    batch = next(training_batches(source, np.arange(10), **options))
    np.testing.assert_array_equal(batch.inputs, images[batch.index])

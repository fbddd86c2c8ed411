"""The check of all files of a folder: once, and not again where nothing has changed."""

import json
import os

import numpy as np
import PIL.Image
import pytest

from jaxhash.data.readers import image_files
from jaxhash.data.readers.folder import index_images, read_folder
from jaxhash.data.readers.image_files import INDEX_NAME, write_index


@pytest.fixture
def folder(tmp_path):
    """A set of two classes, with an image that is none."""
    rng = np.random.default_rng(0)
    for number in range(12):
        path = tmp_path / "set" / "ab"[number % 2] / f"{number:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        PIL.Image.fromarray(rng.integers(0, 256, (6, 6, 3)).astype(np.uint8)).save(path)
    path.write_text("no image")
    return tmp_path / "set"


@pytest.fixture
def opened(monkeypatch):
    """The names of the files that are decoded, the first good one apart, which gives the shape."""
    names, try_read_image = [], image_files.try_read_image

    def watch(path, *arguments):
        names.append(path.name)
        return try_read_image(path, *arguments)

    monkeypatch.setattr(image_files, "try_read_image", watch)
    return names


def read(folder, index=None, image_size=None, held=0):
    return read_folder("folder:set", folder, image_size, 0.5, held, index)


def assert_same(source, other):
    np.testing.assert_array_equal(source.inputs[:], other.inputs[:])
    np.testing.assert_array_equal(source.labels, other.labels)
    assert source.left_out == other.left_out and source.notes == other.notes
    assert list(source.item_names) == list(other.item_names)


def test_what_was_checked_is_not_checked_again(folder, tmp_path, opened):
    source = read(folder)
    assert len(opened) == 13
    write_index(source, tmp_path)
    opened.clear()
    again = read(folder, tmp_path / INDEX_NAME)
    assert opened == ["00.png"]
    assert_same(again, source)
    assert source.left_out == ("b/11.png: not an image of a known format",)
    assert again.inputs.digests.tolist() == source.inputs.digests.tolist()
    assert len(set(source.inputs.digests.tolist())) == 11


@pytest.mark.parametrize("change", ["content", "time", "mended", "broken", "gone", "new"])
def test_what_has_changed_is_checked_again(folder, tmp_path, opened, change):
    write_index(read(folder), tmp_path)
    path = folder / "a" / "04.png"
    if change == "content":
        PIL.Image.new("RGB", (6, 6)).save(path)
    elif change == "time":
        os.utime(path, ns=(0, 0))
    elif change == "mended":
        path = folder / "b" / "11.png"
        PIL.Image.new("RGB", (6, 6)).save(path)
    elif change == "broken":
        path.write_bytes(path.read_bytes()[:-30])
    elif change == "gone":
        path.unlink()
    else:
        path = folder / "b" / "99.png"
        PIL.Image.new("RGB", (6, 6)).save(path)
    opened.clear()
    again = read(folder, tmp_path / INDEX_NAME)
    assert opened == ["00.png", *([] if change == "gone" else [path.name])]
    assert_same(again, read(folder))


@pytest.mark.parametrize(
    "damage", ["cut", "empty", "bit", "bytes", "link", "pipe", "another size", "another version"]
)
def test_an_index_that_cannot_be_relied_on(folder, tmp_path, monkeypatch, opened, damage):
    path, image_size = tmp_path / INDEX_NAME, 3 if damage == "another size" else None
    write_index(read(folder), tmp_path)
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:-20])
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage == "bit":
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    elif damage == "bytes":
        path.write_bytes(b"\xff" * 100)
    elif damage == "link":
        path.rename(tmp_path / "moved")
        path.symlink_to(tmp_path / "moved")
    elif damage == "pipe":
        path.unlink()
        os.mkfifo(path)
    elif damage == "another version":
        monkeypatch.setattr(image_files, "__version__", "0.0.0")
    opened.clear()
    again = read(folder, path, image_size)
    assert len(opened) == 13
    assert_same(again, read(folder, None, image_size))


def test_digests_are_those_of_the_pixels(folder):
    """A file that is written otherwise has them too; of grey whose white is a guess there are none."""
    PIL.Image.open(folder / "a" / "00.png").save(folder / "b" / "99.tif")
    PIL.Image.fromarray(np.full((6, 6), 4000, np.uint16)).save(folder / "b" / "98.png")
    digests = read(folder).inputs.digests.tolist()
    assert len(digests) == 13 and digests[-1] == digests[0] and digests[-2] == 0
    assert digests.count(digests[0]) == 2


def test_a_set_held_in_memory_needs_no_index(folder, tmp_path):
    source = read(folder, held=10**6)
    write_index(source, tmp_path)
    assert not (tmp_path / INDEX_NAME).exists()
    assert_same(source, read(folder))


@pytest.mark.parametrize("held", [0, 10**6])
def test_the_first_process_checks_for_all(folder, monkeypatch, opened, held):
    """The others are told what it found; they read what they need."""
    told = []

    def first(make):
        told.append(json.dumps(make()))
        return json.loads(told[0])

    monkeypatch.setattr("jaxhash.data.readers.folder.broadcast_from_host0", first)
    source = read(folder, held=held)
    opened.clear()
    monkeypatch.setattr(
        "jaxhash.data.readers.folder.broadcast_from_host0", lambda make: json.loads(told[0])
    )
    other = read(folder, held=held)
    assert len(opened) == (11 if held else 0)
    assert_same(other, source)


def test_an_index_beside_the_images_serves_every_run(folder, opened):
    source = read(folder)
    opened.clear()
    assert index_images("folder:set", folder, None)[:2] == (12, 1)
    assert len(opened) == 13
    opened.clear()
    again = read(folder)
    assert opened == ["00.png"]
    assert_same(again, source)
    assert again.inputs.digests.tolist() == source.inputs.digests.tolist()
    opened.clear()
    read(folder, image_size=4)  # of which there is no index
    assert len(opened) == 13


def test_an_index_that_is_interrupted_goes_on(folder, opened, monkeypatch):
    monkeypatch.setattr(image_files, "SAVE_SECONDS", 0.0)
    row_digest, seen = image_files.row_digest, []

    def killed(pixels):
        seen.append(pixels)
        if len(seen) > 7:
            raise KeyboardInterrupt
        return row_digest(pixels)

    monkeypatch.setattr(image_files, "cores_used", lambda: 1)
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(image_files, "row_digest", killed)
        index_images("folder:set", folder, None)
    opened.clear()
    index_images("folder:set", folder, None)
    assert 1 < len(opened) <= 7
    assert_same(read(folder), read(folder, image_size=None))

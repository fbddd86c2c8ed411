"""Image folders: what they hold, what is left out of them, and the line that says why."""

import os
import pickle

import numpy as np
import PIL.Image
import pytest

from jaxhash.data.augment import Augment
from jaxhash.data.load import load_source
from jaxhash.data.pipeline import training_batches
from jaxhash.data.readers.images import read_image
from jaxhash.utils.errors import UserError


def decode(path, image_size=None):
    """Returns the pixels of an image."""
    return read_image(path, image_size).pixels


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
        monkeypatch.setattr("jaxhash.data.readers.folder.MEMORY_LIMIT", 0)
    return request.param


def read(source):
    return source.inputs[np.arange(len(source.inputs))]


def test_folders_are_classes(tmp_path, memory):
    images = fill(tmp_path / "pets", classes=("dog", "cat"))
    source = load_source("folder:pets", tmp_path)
    assert isinstance(source.inputs, np.ndarray) == (memory == "in memory")
    assert source.class_names == ("cat", "dog") and source.is_test is None and source.left_out == ()
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
        assert source.is_test is None
    else:
        np.testing.assert_array_equal(source.is_test, np.repeat(is_test, 4))


@pytest.mark.parametrize(
    ("names", "parts"),
    [
        (("Train", "Test"), ("train", "test")),
        (("TRAINING_SET", "test_set"), ("train", "test")),
        (("valid", "train", "test"), ("train", "validation", "test")),
        (("train2017", "val2017"), ("train", "validation")),
        (("dev", "trn", "eval"), ("train", "validation", "test")),
        (("queries", "Gallery"), ("query", "database")),
        (("DB", "Query", "training"), ("train", "query", "database")),
        (("index-images", "probe"), ("query", "database")),
        (("test", "train", "database", "query"), ("train", "test", "query", "database")),
    ],
)
def test_usual_names_of_parts(tmp_path, names, parts):
    """They come in the order of use, whatever they are called, and what was recognized is told."""
    for name in names:
        fill(tmp_path / name, images=2)
    source = load_source(f"folder:{tmp_path}")
    assert source.parts == parts and source.class_names == ("cat", "dog")
    np.testing.assert_array_equal(source.part_ids, np.repeat(np.arange(len(parts)), 4))
    [note] = source.notes
    assert note.startswith("parts of the set: ") and all(name in note for name in (*names, *parts))
    assert source.name_of(0) == "/".join(next(tmp_path.glob(source.item_names[0])).parts[-3:])


@pytest.mark.parametrize(
    ("folders", "said"),
    [
        (("train/cat", "train/dog", "extra/cat"), "train) beside others ("),
        (("train/cat", "test/cat", "cat"), "beside others ("),
        (("train", "test", "extra"), "train) beside others ("),
        (("train/cat", "training/cat"), "are both named like the part train"),
        (("train/cat", "test"), "test holds no class folders"),
        (("train", "test"), "holds no class folders"),
        (("train",), "train holds no class folders"),
        (
            ("cat/train", "cat/test", "dog/train"),
            "cat is where classes are expected, and holds parts",
        ),
        (("cat/train", "dog/train"), "cat is where classes are expected, and holds parts (train)"),
        (
            ("data/train/cat", "data/test/cat"),
            "data is where classes are expected, and holds parts",
        ),
        (("train/train/cat", "test/test/cat"), "test is where classes are expected"),
        (("train/cat/Val", "train/cat/train"), "cat is where classes are expected"),
        (("fit/cat", "fit/dog", "hold/cat", "hold/dog"), "hold no images but folders (cat, dog)"),
        (("fit/cat", "fit/dog", "hold/dog"), "hold no images but folders (cat, dog)"),
        (("images/cat", "images/dog"), "hold no images but folders (cat, dog)"),
    ],
)
def test_classes_that_look_like_parts(tmp_path, folders, said):
    for number, folder in enumerate(folders):
        write(tmp_path / folder / "a.png", pixels(number))
    line = error_line(f"folder:{tmp_path}")
    assert (
        said in line and "in PART/CLASS/ where the parts are called train, validation, test" in line
    )


@pytest.mark.parametrize("name", ["test", "train", "Index"])
def test_a_class_may_be_called_as_a_part(tmp_path, name):
    """A train is a vehicle, too: its images lie in it, and beside it are classes."""
    fill(tmp_path, classes=(name, "toast", "tram"))
    source = load_source(f"folder:{tmp_path}")
    assert sorted(source.class_names) == sorted((name, "toast", "tram")) and source.parts is None
    assert f"{name} is taken for a class" in source.notes[0]


def test_classes_may_hold_the_same_few_folders(tmp_path):
    for name in ("cat", "dog", "elk"):
        fill(tmp_path / name, classes=("day", "night"), images=1)
    assert load_source(f"folder:{tmp_path}").class_names == ("cat", "dog", "elk")


def test_a_class_that_one_part_has_alone(tmp_path):
    fill(tmp_path / "train")
    fill(tmp_path / "val", classes=("images",))
    notes = load_source(f"folder:{tmp_path}").notes
    assert notes[1] == "classes of one part alone: cat, dog, images"


def test_classes_of_the_same_name_but_for_capitals(tmp_path):
    fill(tmp_path / "train", classes=("Cat", "dog"))
    fill(tmp_path / "test", classes=("cat", "dog"))
    source = load_source(f"folder:{tmp_path}")
    assert source.notes[1] == "warning: classes that differ in capitals alone: Cat and cat"


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
    assert source.item_names[4:6] == ["cat/004.png", "cat/more/z.png"]
    told = "\n".join(source.notes)
    for words in ("as hidden: ", "1 x .cache", "1 x .hidden.png", "1 x .thumbs"):
        assert words in told
    assert "beside the class folders: 1 x .png" in told
    assert "in class folders, of no suffix of an image: 1 x .txt" in told


def test_all_that_is_passed_over_is_counted(tmp_path):
    for part in ("train", "test"):
        fill(tmp_path / part)
        write(tmp_path / part / "flat.PNG", pixels(0))
    (tmp_path / "readme").write_text("")
    for number, suffix in enumerate(("xml", "XML", "json", "eps")):
        (tmp_path / "train" / "cat" / f"{number}.{suffix}").write_text("")
    told = load_source(f"folder:{tmp_path}").notes
    assert "passed over beside the class folders: 2 x .png" in told
    assert "passed over beside the parts: 1 x no suffix" in told
    [line] = [line for line in told if "in class folders" in line]
    assert line.endswith(": 2 x .xml, 1 x .eps, 1 x .json")


def test_links(tmp_path):
    """They are followed, but not to where the class has been already."""
    images = fill(tmp_path / "set", classes=("cat",))
    fill(tmp_path / "elsewhere", classes=("dog", "puppy"))
    (tmp_path / "set" / "dog").symlink_to(tmp_path / "elsewhere" / "dog")
    (tmp_path / "elsewhere" / "dog" / "young").symlink_to(tmp_path / "elsewhere" / "puppy")
    (tmp_path / "set" / "cat" / "again").symlink_to(tmp_path / "set" / "cat")
    source = load_source(f"folder:{tmp_path / 'set'}")
    np.testing.assert_array_equal(source.labels, [0] * 5 + [1] * 10)
    np.testing.assert_array_equal(read(source)[:5], images)
    assert source.item_names[-1] == "dog/young/004.png"
    assert any(line.endswith("for a link leads there again: 5 x .png") for line in source.notes)


def test_what_is_no_file_is_not_waited_for(tmp_path, memory):
    fill(tmp_path)
    os.mkfifo(tmp_path / "cat" / "pipe.png")
    (tmp_path / "cat" / "zero.png").symlink_to("/dev/zero")
    (tmp_path / "dog" / "nowhere.png").symlink_to(tmp_path / "nowhere")
    (tmp_path / "dog" / "folder.png").mkdir()
    (tmp_path / "dog" / "self.png").symlink_to(tmp_path / "dog" / "self.png")
    (tmp_path / "self").symlink_to(tmp_path / "self")
    source = load_source(f"folder:{tmp_path}", max_unreadable=0.5)
    assert source.left_out[:2] == ("cat/pipe.png: not a file", "cat/zero.png: not a file")
    assert source.left_out[2].startswith("dog/nowhere.png: ") and len(source.left_out) == 4


def test_a_folder_that_may_not_be_read_is_no_empty_one(tmp_path, monkeypatch):
    fill(tmp_path)
    (tmp_path / "cat" / "more").mkdir()
    scandir = os.scandir

    def refuse(path):
        if str(path).endswith("more"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(PermissionError):
        load_source(f"folder:{tmp_path}")


def test_names_in_bytes_that_are_no_text(tmp_path):
    fill(tmp_path)
    os.rename(tmp_path / "cat" / "000.png", os.fsencode(tmp_path / "cat") + b"/\xff.png")
    source = load_source(f"folder:{tmp_path}")
    assert source.item_names[4] == "cat/\\xff.png" and len(read(source)) == 10


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
        (5, 1, {"max_unreadable": 0.0}, False),
        (5, 3, {"max_unreadable": 0.3}, True),
        (50, 29, {"max_unreadable": 0.29}, True),
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
    (tmp_path / "elk" / "a.eps").write_text("%!PS")
    line = error_line(f"folder:{tmp_path}")
    assert line.endswith("holds no image; of what is passed over: 1 x .eps")


def test_images_of_several_sizes(tmp_path, memory):
    fill(tmp_path)
    write(tmp_path / "dog" / "z.png", pixels(0, 4, 9))
    line = error_line(f"folder:{tmp_path}")
    assert "several sizes, cat/000.png 6 x 6 and dog/z.png 9 x 4; `image_size=N`" in line
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
    monkeypatch.setattr("jaxhash.data.readers.folder.MEMORY_LIMIT", 0)
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
    monkeypatch.setattr("jaxhash.data.readers.folder.MEMORY_LIMIT", 0)
    images = fill(tmp_path)
    source = load_source(f"folder:{tmp_path}")
    again = pickle.loads(pickle.dumps(source.inputs))
    np.testing.assert_array_equal(again[np.arange(10)], images)
    options = dict(batch_size=5, seed=0, augment=Augment(), workers=1)
    batch = next(training_batches(source, np.arange(10), **options))
    np.testing.assert_array_equal(batch.inputs, images[batch.index])

"""Image files that are encoded: which are found, what they are called, their labels, what is broken."""

import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from jaxhash.data.input_form import InputForm
from jaxhash.data.inputs import Item, open_inputs
from jaxhash.utils.errors import UserError

FORM = InputForm("images", (4, 4, 3), "uint8", 0.0, 255.0, 100.0, image_size=4)
ALL = slice(None)


def write(path, value=0, size=(4, 4)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (value, value, value)).save(path)


def paths(inputs):
    return [item.path for item in inputs.items(ALL)]


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    for number, name in enumerate(["cat/1.png", "cat/deep/er/2.JPG", "dog/1.png"]):
        write(folder / name, 10 * number)
    return folder


def test_a_folder_is_read_at_any_depth_with_labels_by_its_folders(photos):
    (photos / ".hidden.png").write_bytes(b"")
    (photos / "dog" / "notes.txt").write_text("")
    root, [inputs] = open_inputs([photos], FORM)
    assert root == photos
    assert paths(inputs) == ["cat/1.png", "cat/deep/er/2.JPG", "dog/1.png"]
    assert [item.label for item in inputs.items(ALL)] == ["cat", "cat", "dog"]
    state = (photos / "cat/1.png").stat()
    assert inputs.items(slice(0, 1)) == [
        Item("cat/1.png", state.st_size, state.st_mtime_ns, "cat"),
    ]
    notes = " ".join(inputs.notes)
    assert "1 x .txt" in notes and ".hidden.png" in notes and "labels" in notes


def test_blocks_hold_pixels_rows_digests_and_reasons(photos):
    (photos / "cat" / "2.png").write_bytes(b"no image")
    write(photos / "dog" / "copy.png", 20)
    _, [inputs] = open_inputs([photos], FORM)
    block = inputs.read(slice(1, 9), FORM)
    assert block.rows.tolist() == [2, 3, 4] and list(block.broken) == [1]
    np.testing.assert_array_equal(block.inputs[:, 0, 0, 0], [10, 20, 20])
    assert block.digests[1] == block.digests[2] != block.digests[0]
    nothing = inputs.read(slice(1, 2), FORM)
    assert nothing.inputs.shape == (0, 4, 4, 3) and not len(nothing.rows)


def test_files_that_are_no_image_have_a_reason_each(photos):
    (photos / "cat" / "empty.png").write_bytes(b"")
    (photos / "cat" / "link.png").symlink_to("nowhere.png")
    os.mkfifo(photos / "cat" / "pipe.png")
    whole = (photos / "dog" / "1.png").read_bytes()
    (photos / "cat" / "half.png").write_bytes(whole[: len(whole) // 2])
    _, [inputs] = open_inputs([photos], FORM)
    broken = inputs.read(ALL, FORM).broken
    named = {paths(inputs)[row]: reason for row, reason in broken.items()}
    assert sorted(named) == [f"cat/{name}.png" for name in ("empty", "half", "link", "pipe")]
    assert all(named.values())
    assert inputs.items(ALL)[paths(inputs).index("cat/link.png")].size == 0


def test_names_of_every_kind_round_trip_and_those_that_are_no_utf8_have_no_row(photos):
    names = ["a b.png", 'it\'s "x".png', "new\nline.png", "猫.png", "\u202e.png", "%2F#1.png"]
    for name in names:
        write(photos / "cat" / name)
    raw = os.path.join(os.fsencode(photos), b"cat", b"\xff.png")
    with open(raw, "wb") as file:
        file.write((photos / "cat/1.png").read_bytes())
    _, [inputs] = open_inputs([photos], FORM)
    assert {f"cat/{name}" for name in names} < set(paths(inputs))
    block = inputs.read(ALL, FORM)
    [reason] = block.broken.values()
    assert "UTF-8" in reason
    assert paths(inputs)[next(iter(block.broken))] == "cat/\\xff.png"
    assert len(block.rows) == 3 + len(names)


def test_links_that_lead_back_do_not_hang(photos):
    (photos / "cat" / "up").symlink_to(photos)
    (photos / "self").symlink_to("self")
    _, [inputs] = open_inputs([photos], FORM)
    assert paths(inputs) == ["cat/1.png", "cat/deep/er/2.JPG", "dog/1.png"]


@pytest.mark.parametrize(
    ("files", "labels"),
    [
        (["1.png", "cat/2.png"], None),
        (["train/cat/1.png", "test/dog/2.png"], ["dog", "cat"]),
        (["train/1.png", "cat/2.png"], ["cat", "train"]),
    ],
)
def test_labels_are_told_by_the_first_folders_alone(tmp_path, files, labels):
    for name in files:
        write(tmp_path / name)
    _, [inputs] = open_inputs([tmp_path], FORM)
    assert [item.label for item in inputs.items(ALL)] == (labels or [None] * len(files))


def test_labels_by_a_file_or_none(photos, tmp_path):
    file = tmp_path / "labels.txt"
    file.write_text("cat/1.png tom\ndog/1.png\told dog\n")
    _, [inputs] = open_inputs([photos], FORM, labels=str(file))
    assert [item.label for item in inputs.items(ALL)] == ["tom", None, "old dog"]
    assert "2 of 3" in " ".join(inputs.notes)
    _, [inputs] = open_inputs([photos], FORM, labels="none")
    assert {item.label for item in inputs.items(ALL)} == {None}
    file.write_text("1.png tom")
    with pytest.raises(UserError, match="cat/1.png"):
        open_inputs([photos], FORM, labels=str(file))
    write(photos / "lone.png")
    with pytest.raises(UserError, match="lone.png"):
        open_inputs([photos], FORM, labels="folder")


def test_the_root_is_the_deepest_folder_of_all_inputs(photos, tmp_path):
    write(tmp_path / "other.png")
    root, opened = open_inputs([photos / "dog", tmp_path / "other.png"], FORM)
    assert root == tmp_path
    assert [paths(each) for each in opened] == [["photos/dog/1.png"], ["other.png"]]
    root, [inputs] = open_inputs([photos / "dog"], FORM, root=tmp_path)
    assert root == tmp_path and paths(inputs) == ["photos/dog/1.png"]


def test_what_lies_outside_the_root_is_refused(photos, tmp_path):
    with pytest.raises(UserError) as caught:
        open_inputs([photos / "dog"], FORM, root=photos / "cat")
    assert "dog" in str(caught.value) and "photos/cat" in str(caught.value)
    (tmp_path / "link").symlink_to(photos)
    assert open_inputs([tmp_path / "link" / "dog"], FORM, root=photos)


def test_a_file_that_is_named_twice_is_taken_once(photos, monkeypatch):
    monkeypatch.chdir(photos.parent)
    names = ["photos", photos, "photos/dog", "photos/cat/1.png", "./photos/cat/1.png"]
    _, opened = open_inputs(names, FORM)
    assert sum(len(inputs) for inputs in opened) == 3
    assert any("twice" in note or "times" in note for each in opened for note in each.notes)


def test_image_files_that_are_named_are_one_input(photos):
    names = [photos / "dog/1.png", photos / "cat/1.png"]
    _, [inputs] = open_inputs(names, FORM)
    assert paths(inputs) == ["dog/1.png", "cat/1.png"]


@pytest.mark.parametrize(
    ("content", "found", "labels"),
    [
        (b"a b.png\ncat/1.png\r\n\n", ["a b.png", "cat/1.png"], [None, None]),
        (b"cat/1.png\0a b.png\0", ["cat/1.png", "a b.png"], [None, None]),
        (b"cat/1.png 3\ndog/1.png -1\n", ["cat/1.png", "dog/1.png"], ["3", None]),
        (b"cat/1.png 0 1 1\ndog/1.png 1 0 0\n", ["cat/1.png", "dog/1.png"], ["1, 2", "0"]),
    ],
)
def test_lists_of_files(photos, content, found, labels):
    write(photos / "a b.png")
    (photos / "list.txt").write_bytes(content)
    _, [inputs] = open_inputs([photos / "list.txt"], FORM)
    assert paths(inputs) == found
    assert [item.label for item in inputs.items(ALL)] == labels
    assert not inputs.read(ALL, FORM).broken


def test_a_missing_file_of_a_list_is_broken(photos):
    (photos / "list.txt").write_text("cat/1.png\ngone.png\n")
    _, [inputs] = open_inputs([photos / "list.txt"], FORM)
    assert list(inputs.read(ALL, FORM).broken) == [1]


@pytest.mark.parametrize(
    ("names", "said"),
    [
        ([], "name what to encode"),
        (["nowhere"], "nowhere: there is no such input"),
        (["folder:nowhere"], "folder:nowhere: there is no such folder"),
        (["empty"], "empty: the folder holds no image; of what is passed over: 1 x .csv"),
        (["empty/table.csv"], "table.csv: no input by its suffix"),
        (["empty/list.txt"], "the list is empty"),
    ],
)
def test_names_that_lead_nowhere_are_refused(tmp_path, monkeypatch, names, said):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "table.csv").write_text("")
    if names == ["empty/list.txt"]:
        (tmp_path / "empty" / "list.txt").write_text("\n")
    with pytest.raises(UserError, match=said):
        open_inputs(names, FORM)


def test_vectors_are_expected_and_images_come(photos):
    form = InputForm("vectors", (7,), "float32", 0.0, 1.0, 1.0, scale=1.0)
    with pytest.raises(UserError, match="image files.*vectors"):
        open_inputs([photos], form)


def test_images_of_one_size_alone_where_the_form_has_no_resizing(photos):
    write(photos / "cat" / "big.png", size=(9, 9))
    form = InputForm("images", (4, 4, 3), "uint8", 0.0, 255.0, 100.0)
    _, [inputs] = open_inputs([photos], form)
    assert list(inputs.read(ALL, form).broken) == [paths(inputs).index("cat/big.png")]
    with pytest.raises(UserError):
        open_inputs([photos / "cat" / "big.png"], form)


def test_a_file_name_that_no_text_can_print_is_still_an_input(tmp_path):
    """The locale of a service may be C; names are bytes there, and what is stored is the same."""
    write(tmp_path / "photos" / "猫.png")
    code = (
        "from jaxhash.data.inputs import open_inputs; import sys;"
        "[i] = open_inputs([sys.argv[1]]).inputs;"
        "sys.stdout.buffer.write(i.items(slice(0, 1))[0].path.encode())"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "photos")]
    done = subprocess.run(
        command, env=os.environ | {"LC_ALL": "C"}, capture_output=True, check=True
    )
    assert done.stdout.decode() == "猫.png"

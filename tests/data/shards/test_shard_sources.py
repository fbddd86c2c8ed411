"""Sources of shards: of every format the same items, batches and errors as of arrays in memory."""

import io
import os
import pickle
from itertools import islice

import jax
import numpy as np
import pytest
from PIL import Image
from shard_writers import FORMATS, png, write_shard

from jaxhash.data import from_arrays
from jaxhash.data.augment import Augment
from jaxhash.data.checks.split_report import LabeledSplit, examine_split
from jaxhash.data.checks.training_data import examine, open_split
from jaxhash.data.config import DataConfig
from jaxhash.data.load import load_source
from jaxhash.data.pipeline import evaluation_batches, training_batches
from jaxhash.data.readers import shards as reader
from jaxhash.data.shards import index as index_module
from jaxhash.data.shards import rows as rows_module
from jaxhash.data.splits import Split
from jaxhash.data.tree_form import measure_rows
from jaxhash.objectives import ClassSimilarity
from jaxhash.utils.errors import UserError

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (40, 6, 5, 3), np.uint8)
VECTORS = RNG.normal(size=(40, 4)).astype(np.float32)
LABELS = np.arange(40, dtype=np.int32) % 3
#: Records of each shard.
SHARDS = {"train-00000": range(14), "train-00001": range(14, 30), "test-00000": range(30, 40)}


@pytest.fixture(params=FORMATS)
def kind(request):
    return request.param


@pytest.fixture(params=[IMAGES, VECTORS], ids=["images", "vectors"])
def inputs(request):
    return request.param


@pytest.fixture(params=["in memory", "on access"])
def limit(request, monkeypatch):
    if request.param == "on access":
        monkeypatch.setattr(reader, "MEMORY_LIMIT", 0)
        monkeypatch.setattr(index_module, "WINDOW_BYTES", 1)  # a group of Parquet at a time


@pytest.fixture
def write(tmp_path, kind):
    """A function that writes a set of shards of one format, and names its source."""

    def write_set(inputs, labels=LABELS, shards=SHARDS, **options):
        (tmp_path / "set").mkdir(exist_ok=True)
        contents = [png(each) for each in inputs] if inputs.ndim == 4 else list(inputs)
        labels = [each if isinstance(each, str | None) else int(each) for each in labels]
        for name, rows in shards.items():
            here = [contents[row] for row in rows], [labels[row] for row in rows]
            write_shard(kind, tmp_path / "set" / f"{name}.{kind}", *here, **options)
        return "shards:set", tmp_path

    return write_set


def assert_same(batches, others):
    for batch, other in zip(batches, others, strict=True):
        for leaf, expected in zip(*map(jax.tree.leaves, (batch, other)), strict=True):
            np.testing.assert_array_equal(leaf, expected)


def findings(source):
    config = DataConfig(queries_per_class=2, train_per_class=4)
    split = open_split(config, source)
    form = measure_rows(source.inputs, split.train)
    return examine(config, "csq", source, split, form, ClassSimilarity(), None)


def test_items_are_those_that_were_written(write, inputs, limit, tmp_path):
    source = load_source(*write(inputs))
    copy = pickle.loads(pickle.dumps(source.inputs))  # as a process that loads data gets it
    for rows in (slice(None), slice(3, 21, 4), np.array([33, 2, 2, -1]), 7, slice(0, 0)):
        np.testing.assert_array_equal(copy[rows], inputs[rows])
    np.testing.assert_array_equal(source.labels, LABELS)
    assert source.labels.dtype == np.int32 and source.class_names == ("0", "1", "2")
    assert {part: len(items) for part, items in source.items_by_part.items()} == {
        "train": 30,
        "test": 10,
    }
    assert load_source("shards:set", tmp_path).notes == source.notes  # which an evaluation compares
    assert source.item_names[15].startswith("train-00001.") and source.item_names[15].endswith("#1")


def test_a_bit_that_flips_after_the_shards_were_indexed_never_gives_other_inputs(
    write, inputs, limit, tmp_path
):
    """Under the same size and time, where the index is taken as it is; a byte of lengths or names may be unused."""
    location = write(inputs)
    shard = next((tmp_path / "set").glob("train-00001.*"))
    load_source(*location)
    content, state = shard.read_bytes(), shard.stat()
    refused = 0
    used = np.flatnonzero(np.frombuffer(content, np.uint8))  # a tar and an ArrayRecord are padded
    for place in used[:: len(used) // 50]:
        damaged = bytearray(content)
        damaged[place] ^= 16
        shard.write_bytes(damaged)
        os.utime(shard, ns=(state.st_atime_ns, state.st_mtime_ns))
        try:
            read = load_source(*location).inputs[:]
        except UserError as error:
            assert str(shard) in str(error)
            refused += 1
        else:
            np.testing.assert_array_equal(read, inputs)
    assert refused
    shard.write_bytes(content)
    os.utime(shard, ns=(state.st_atime_ns, state.st_mtime_ns))
    np.testing.assert_array_equal(load_source(*location).inputs[:], inputs)


def test_batches_are_those_of_the_same_arrays(write, inputs, limit, kind):
    """Parquet on access shuffles in windows, which a note says; evaluation is the same for all."""
    source = load_source(*write(inputs))
    arrays = from_arrays(inputs, LABELS, parts=["train"] * 30 + ["test"] * 10)
    items, options = np.arange(30), {"batch_size": 8, "seed": 3, "augment": Augment()}
    windowed = [
        note for note in source.notes if note.startswith("order: shuffled in windows of 1 ")
    ]
    assert len(windowed) == (kind == "parquet" and not isinstance(source.inputs, np.ndarray))
    mine, its = (list(islice(training_batches(s, items, **options), 8)) for s in (source, arrays))
    if windowed:
        epoch = np.concatenate([batch.index[batch.mask] for batch in mine[:4]])
        np.testing.assert_array_equal(np.sort(epoch), items)
        assert (np.abs(np.diff(epoch)) < 4).mean() > 0.7
    else:
        assert_same(mine, its)
    assert_same(*(evaluation_batches(s, np.arange(7, 40), batch_size=8) for s in (source, arrays)))


def test_a_training_goes_on_and_is_shared_by_processes(write, limit):
    source = load_source(*write(IMAGES))
    options = {"batch_size": 8, "seed": 3, "augment": Augment(1, True)}
    whole = list(islice(training_batches(source, np.arange(30), **options), 7))
    late = training_batches(source, np.arange(30), start=3, **options)
    assert_same(islice(late, 4), whole[3:])
    for process in range(2):
        half = slice(4 * process, 4 * process + 4)
        own = training_batches(
            source, np.arange(30), process_index=process, process_count=2, **options
        )
        assert_same(islice(own, 7), [jax.tree.map(lambda leaf: leaf[half], b) for b in whole])  # noqa: B023


def test_names_of_classes_are_sorted_over_all_shards(write):
    """A shard that has seen them in another order, or not all, has the same numbers."""
    words = np.array(["elk", "cat", "dog"])[LABELS].tolist()
    words[0] = "ant"
    source = load_source(*write(VECTORS, words))
    assert source.class_names == ("ant", "cat", "dog", "elk")
    assert [source.class_names[label] for label in source.labels] == words


def test_items_without_a_label(write, error_line):
    some = [None if number % 5 == 0 else int(label) for number, label in enumerate(LABELS)]
    source = load_source(*write(VECTORS, some))
    assert (source.labels == -1).sum() == 8 and source.labels[1] == 1
    assert any("without a label: 8 of 40" in note for note in source.notes)


def test_a_set_without_labels_says_what_it_looked_for(write, kind, error_line):
    line = error_line(*write(VECTORS, [None] * 40))
    looked_for = {"tar": ".cls", "parquet": "a column label"}.get(kind, "a feature label")
    assert "no record has a label" in line and looked_for in line


def test_equal_inputs_are_found_by_their_digests(write, inputs, monkeypatch):
    monkeypatch.setattr(reader, "MEMORY_LIMIT", 0)
    twice = inputs.copy()
    twice[31] = twice[2]
    source = load_source(*write(twice))
    split = open_split(DataConfig(), source)
    form, read = measure_rows(source.inputs, split.train), []
    monkeypatch.setattr(rows_module._ShardRows, "_contents", lambda self, rows: read.append(rows))
    with pytest.raises(
        UserError, match="equal inputs: query test-00000.*#1 and train train-00000.*#2"
    ):
        examine(DataConfig(), "csq", source, split, form, ClassSimilarity(), None)
    assert not read


def test_unreadable_records_are_left_out(write, limit, tmp_path, monkeypatch):
    """Bytes that are no image are found by the index, an image that is cut when it is read."""
    broken = [png(each) for each in IMAGES]
    broken[5], broken[33] = b"no image at all", b""
    monkeypatch.setitem(globals(), "png", lambda image: broken[find(image)])
    name, folder = write(IMAGES)
    with pytest.raises(UserError, match="2 of 40 images cannot be read"):
        load_source(name, folder)
    source = load_source(name, folder, max_unreadable=0.1)
    np.testing.assert_array_equal(source.inputs[:], np.delete(IMAGES, [5, 33], axis=0))
    np.testing.assert_array_equal(source.labels, np.delete(LABELS, [5, 33]))
    assert [len(items) for items in source.items_by_part.values()] == [29, 9]
    assert [line.partition(":")[0].rpartition(".")[0] for line in source.left_out] == [
        "train-00000",
        "test-00000",
    ]
    assert source.left_out[0].partition(":")[0].endswith("#5")
    assert source.item_names[5].endswith("#6") and source.item_names[30].endswith("#1")


def find(image):
    return int(np.flatnonzero((image == IMAGES).all(axis=(1, 2, 3)))[0])


def test_a_cut_image_is_left_out_or_ends_the_run(write, limit, monkeypatch):
    whole = [png(each) for each in IMAGES]
    whole[8] = whole[8][:-40]
    monkeypatch.setitem(globals(), "png", lambda image: whole[find(image)])
    source = load_source(*write(IMAGES))
    if isinstance(source.inputs, np.ndarray):
        assert len(source.inputs) == 39 and source.left_out[0].partition(":")[0].endswith("#8")
        assert source.item_names[8].endswith("#9")
    else:
        with pytest.raises(UserError, match="train-00000.*#8: "):
            source.inputs[5:10]


def test_images_of_several_sizes(write, tmp_path, kind):
    name, folder = write(IMAGES)
    other = [png(np.zeros((9, 9, 3), np.uint8))]
    write_shard(kind, folder / "set" / f"train-00002.{kind}", other, [1])
    with pytest.raises(UserError, match="several sizes, train-00000.*5 x 6 and train-00002.*9 x 9"):
        load_source(name, folder)
    assert load_source(name, folder, 4).inputs[:].shape == (41, 4, 4, 3)


def test_a_cut_shard_is_named(write, kind, error_line, inputs):
    name, folder = write(inputs)
    path = folder / "set" / f"train-00001.{kind}"
    content = path.read_bytes()
    lengths = {"tar": (len(content) // 2, len(content) // 2 + 100, 10_240)}
    for length in lengths.get(kind, (len(content) // 2 + 1, len(content) - 3, 100)):
        path.write_bytes(content[:length])
        line = error_line(name, folder)
        assert f"train-00001.{kind}: record " in line
    path.unlink()
    path.write_bytes(b"")
    if kind != "tfrecord":  # of which it is a sound file without records
        assert f"train-00001.{kind}" in error_line(name, folder)


def test_a_set_that_changed_is_other_data(write, kind, inputs, limit):
    """Not if files are copied; what is in the index of an unchanged shard is not read again."""
    name, folder = write(inputs)
    before = findings(load_source(name, folder)).data_sha256
    path = folder / "set" / f"train-00001.{kind}"
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(content)
    assert findings(load_source(name, folder)).data_sha256 == before
    other = inputs.copy()
    other[17] = other[17] + 1
    write(other)
    assert findings(load_source(name, folder)).data_sha256 != before


def test_of_very_many_records_none_is_compared(write, inputs, monkeypatch):
    monkeypatch.setattr(reader, "MEMORY_LIMIT", 0)
    monkeypatch.setattr(rows_module, "MAX_COMPARED", 10)
    found = findings(load_source(*write(inputs)))
    assert not found.equal_inputs and sum("equal inputs are" in note for note in found.notes) == 1
    other = inputs.copy()
    other[17] = other[17] + 1
    assert findings(load_source(*write(other))).data_sha256 != found.data_sha256


def test_a_check_finds_equal_pixels_in_other_bytes(tmp_path, kind, limit):
    """Of ten queries, three are training images that were compressed otherwise."""
    (tmp_path / "set").mkdir()
    files = [png(image) for image in IMAGES]
    for copy in range(3):
        file = io.BytesIO()
        Image.fromarray(IMAGES[copy]).save(file, "PNG", compress_level=0)
        files[30 + copy] = file.getvalue()
        assert files[30 + copy] != files[copy]
    for name, rows in SHARDS.items():
        here = [files[row] for row in rows], [int(LABELS[row]) for row in rows]
        write_shard(kind, tmp_path / "set" / f"{name}.{kind}", *here)
    source = load_source("shards:set", tmp_path)
    split = Split("parts", train=np.arange(30), query=np.arange(30, 40), database=np.arange(30))
    found = examine_split(LabeledSplit(split, source.labels, "abc", source.inputs))
    assert found["same_content"]["query"]["train"] == 3
    assert len(found["leaks"]) and "3 of 10" in found["leaks"][0]

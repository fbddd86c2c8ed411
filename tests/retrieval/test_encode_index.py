"""Encoding into an index: whole shards, resuming with the same bytes, what is broken, replaced or refused."""

import contextlib
import dataclasses
import functools
import io
import os

import jax
import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from jaxhash.data.input_form import InputForm
from jaxhash.data.inputs import open_inputs
from jaxhash.models import Encoder, backbone_factory, preprocessing_of
from jaxhash.retrieval import encode_index
from jaxhash.retrieval.encode_index import encode_into
from jaxhash.retrieval.hasher import Hasher
from jaxhash.retrieval.index import Index
from jaxhash.utils.errors import UserError

CONSOLE = Console(file=io.StringIO())


def make_hasher(backbone, form, bits=12):
    model = Encoder(backbone_factory(backbone), bits=bits)
    if form.kind == "images":
        form = dataclasses.replace(form, preprocessing=preprocessing_of(model))
    example = np.zeros((1, *form.shape), form.dtype)
    return Hasher(model, jax.device_get(model.init(jax.random.key(0), example)), form)


@pytest.fixture(scope="module")
def image_hasher():
    return make_hasher(
        "cnn", InputForm("images", (8, 8, 3), "uint8", 0.0, 255.0, 99.0, image_size=8)
    )


@pytest.fixture(scope="module")
def vector_hasher():
    return make_hasher("linear", InputForm("vectors", (6,), "float32", -3.0, 3.0, 1.0, scale=1.0))


@pytest.fixture
def small_shards(monkeypatch):
    """Shards of 5 images or vectors."""
    monkeypatch.setattr(encode_index, "SHARD_IMAGES", (5, 5))
    monkeypatch.setattr(encode_index, "SHARD_VECTORS", 5)


def write(path, seed):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), np.uint8)
    Image.fromarray(pixels).save(path)


@pytest.fixture
def photos(tmp_path):
    for number in range(13):
        write(tmp_path / "photos" / "ab"[number % 2] / f"{number:02}.png", number)
    return tmp_path / "photos"


def encode(folder, hasher, *names, keep=None, thumbnails=None, batch_size=4, strict=False):
    root, inputs = open_inputs(names, hasher.form)
    index = Index.create(folder, hasher, root=root, keep=keep, thumbnails=thumbnails, exist_ok=True)
    counts = encode_into(
        index, inputs, CONSOLE, hasher=hasher, batch_size=batch_size, strict=strict
    )
    return Index.open(folder), counts


def contents(folder):
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def codes_of(index):
    return np.concatenate([codes for _, codes in index.blocks()])


def items_of(index):
    ids = np.concatenate([ids for ids, _ in index.blocks()])
    return index.items(ids)


def test_codes_and_items_are_those_of_the_files(tmp_path, photos, image_hasher, small_shards):
    index, counts = encode(tmp_path / "index", image_hasher, photos)
    items = items_of(index)
    names = sorted(f"{'ab'[n % 2]}/{n:02}.png" for n in range(13))
    assert [item.path for item in items] == names
    assert [item.label for item in items] == [name[0] for name in names]
    assert [item.mtime_ns for item in items] == [(photos / n).stat().st_mtime_ns for n in names]
    expected = image_hasher.encode(image_hasher.preprocess([photos / name for name in names]))
    np.testing.assert_array_equal(codes_of(index), expected)
    assert [shard.rows for shard in index.manifest.shards] == [5, 5, 3]
    assert (counts.added, counts.unchanged, counts.broken) == (13, 0, [])


@pytest.mark.parametrize("batch_size", [1, 3, 256])
def test_codes_do_not_depend_on_the_batch(tmp_path, photos, image_hasher, small_shards, batch_size):
    index, _ = encode(tmp_path / "index", image_hasher, photos, batch_size=batch_size)
    other, _ = encode(tmp_path / "other", image_hasher, photos)
    np.testing.assert_array_equal(codes_of(index), codes_of(other))


def test_the_same_again_changes_nothing(tmp_path, photos, image_hasher, small_shards):
    (photos / "a" / "broken.png").write_bytes(b"no image")
    encode(tmp_path / "index", image_hasher, photos)
    before = contents(tmp_path / "index")
    _, counts = encode(tmp_path / "index", image_hasher, photos)
    assert contents(tmp_path / "index") == before
    assert (counts.added, counts.unchanged) == (0, 14)
    assert [name for name, _ in counts.broken] == ["a/broken.png"]


@contextlib.contextmanager
def interrupted_after(shards, monkeypatch):
    """Interrupts what is written into an index after a number of shards."""
    written, add = [], Index.add

    def add_some(self, *arguments, **options):
        if len(written) == shards:
            raise KeyboardInterrupt
        written.append(None)
        return add(self, *arguments, **options)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Index, "add", add_some)
        yield


@pytest.mark.parametrize("shards", [0, 1, 2, 3, 4, 5])
def test_what_is_interrupted_goes_on_with_the_same_bytes(
    tmp_path, photos, image_hasher, small_shards, monkeypatch, shards
):
    (photos / "a" / "07.png").write_bytes(b"")
    (photos / "b" / "01.png").write_bytes(b"no image")
    names = [photos / "a", photos / "b"]
    kept = {"keep": {"floats": "float32"}, "thumbnails": 16}
    encode(tmp_path / "whole", image_hasher, *names, **kept)
    with interrupted_after(shards, monkeypatch):
        encode(tmp_path / "parts", image_hasher, *names, **kept)
        raise KeyboardInterrupt  # it ended before
    encode(tmp_path / "parts", image_hasher, *names, **kept)
    assert contents(tmp_path / "parts") == contents(tmp_path / "whole")


@pytest.mark.parametrize("shards", [1, 2])
def test_arrays_go_on_with_the_same_bytes(
    tmp_path, vector_hasher, small_shards, monkeypatch, shards
):
    vectors = np.random.default_rng(0).normal(size=(17, 6)).astype(np.float32)
    vectors[3] = np.nan
    np.save(tmp_path / "v.npy", vectors)
    whole, counts = encode(tmp_path / "whole", vector_hasher, tmp_path / "v.npy")
    good = np.delete(vectors, 3, axis=0)
    np.testing.assert_array_equal(codes_of(whole), vector_hasher.encode(good))
    assert [name for name, _ in counts.broken] == ["v.npy#3"]
    with interrupted_after(shards, monkeypatch):
        encode(tmp_path / "parts", vector_hasher, tmp_path / "v.npy")
    encode(tmp_path / "parts", vector_hasher, tmp_path / "v.npy")
    assert contents(tmp_path / "parts") == contents(tmp_path / "whole")


def test_an_array_that_has_changed_is_refused(tmp_path, vector_hasher):
    np.save(tmp_path / "v.npy", np.ones((3, 6), np.float32))
    encode(tmp_path / "index", vector_hasher, tmp_path / "v.npy")
    before = contents(tmp_path / "index")
    np.save(tmp_path / "v.npy", np.ones((4, 6), np.float32))
    np.save(tmp_path / "new.npy", np.ones((4, 6), np.float32))
    with pytest.raises(UserError, match="v.npy has changed"):
        encode(tmp_path / "index", vector_hasher, tmp_path / "new.npy", tmp_path / "v.npy")
    assert contents(tmp_path / "index") == before


def test_new_files_are_added_and_changed_ones_replaced_under_a_new_id(
    tmp_path, photos, image_hasher, small_shards
):
    index, _ = encode(tmp_path / "index", image_hasher, photos)
    [old] = index.find(path="a/02.png")
    write(photos / "a" / "02.png", 99)
    os.utime(photos / "a" / "02.png", ns=(1, 1))
    write(photos / "c" / "new.png", 100)
    index, counts = encode(tmp_path / "index", image_hasher, photos)
    assert (counts.added, counts.replaced, counts.unchanged) == (2, 1, 12)
    [new] = index.find(path="a/02.png")
    assert (old, new) == (2 // 2, 13) and len(index) == 14
    place = [item.path for item in items_of(index)].index("a/02.png")
    expected = image_hasher.encode(image_hasher.preprocess([photos / "a" / "02.png"]))
    np.testing.assert_array_equal(codes_of(index)[[place]], expected)


def test_a_change_that_is_interrupted_leaves_no_item_twice(
    tmp_path, photos, image_hasher, small_shards, monkeypatch
):
    for name in ("whole", "parts"):
        encode(tmp_path / name, image_hasher, photos)
    for number in (0, 4, 6):
        write(photos / "a" / f"{number:02}.png", 50 + number)
        os.utime(photos / "a" / f"{number:02}.png", ns=(number, number))
    encode(tmp_path / "whole", image_hasher, photos)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Index, "add", functools.partial(_interrupt))
        encode(tmp_path / "parts", image_hasher, photos)
    index, _ = encode(tmp_path / "parts", image_hasher, photos)
    assert len(index) == 13 == len({item.path for item in items_of(index)})
    assert contents(tmp_path / "parts") == contents(tmp_path / "whole")


def _interrupt(*_, **__):
    raise KeyboardInterrupt


def test_broken_files_have_no_row_and_are_tried_again(tmp_path, photos, image_hasher, small_shards):
    broken = photos / "a" / "02.png"
    whole, state = broken.read_bytes(), broken.stat()
    broken.write_bytes(bytes(len(whole)))
    os.utime(broken, ns=(1, state.st_mtime_ns))
    index, counts = encode(tmp_path / "index", image_hasher, photos)
    assert len(index) == 12 and [name for name, _ in counts.broken] == ["a/02.png"]
    assert [item.path for item in index.broken()] == ["a/02.png"]
    broken.write_bytes(whole)  # as after a fault of a disk: neither size nor time differ
    os.utime(broken, ns=(1, state.st_mtime_ns))
    for added in (1, 0):
        index, counts = encode(tmp_path / "index", image_hasher, photos)
        assert (counts.added, counts.broken, len(index)) == (added, [], 13)


def test_strict_refuses_broken_files_and_the_index_stays_sound(
    tmp_path, photos, image_hasher, small_shards
):
    (photos / "b" / "01.png").write_bytes(b"no image")
    with pytest.raises(UserError, match="b/01.png.*`strict`"):
        encode(tmp_path / "index", image_hasher, photos, strict=True)
    index = Index.open(tmp_path / "index")
    assert len(index) == len(codes_of(index)) == 5
    (photos / "b" / "01.png").unlink()
    index, _ = encode(tmp_path / "index", image_hasher, photos, strict=True)
    assert len(index) == 12


@pytest.mark.parametrize("name", ["floats", "features"])
def test_vectors_are_kept_beside_the_codes(tmp_path, photos, image_hasher, small_shards, name):
    index, _ = encode(tmp_path / "index", image_hasher, photos, keep={name: "float32"})
    ids = np.arange(len(index))
    inputs = image_hasher.preprocess([photos / item.path for item in index.items(ids)])
    compute = image_hasher.encode_floats if name == "floats" else image_hasher.features
    found, vectors = index.vectors(ids)
    assert found == name
    np.testing.assert_allclose(vectors, compute(inputs), rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(codes_of(index), image_hasher.encode(inputs))


@pytest.mark.parametrize("batch_size", [2, 256])
def test_thumbnails_are_of_what_the_hash_function_sees(
    tmp_path, photos, image_hasher, small_shards, batch_size
):
    """Of files, of which one is broken and one is wide, and of rows of an array."""
    wide = np.random.default_rng(0).integers(0, 256, (20, 50, 3), np.uint8)
    Image.fromarray(wide).save(photos / "a" / "wide.png")
    (photos / "b" / "01.png").write_bytes(b"no image")
    rows = np.random.default_rng(1).integers(0, 256, (7, 8, 8, 3), np.uint8)
    np.save(photos / "rows.npy", rows)
    names = [photos / "a", photos / "b", photos / "rows.npy"]
    options = {"thumbnails": 16, "batch_size": batch_size}
    index, _ = encode(tmp_path / "index", image_hasher, *names, **options)
    items = items_of(index)
    files = [photos / item.path for item in items if "#" not in item.path]
    prepared = [*image_hasher.preprocess(files), *rows]
    found = index.thumbnails([item.id for item in items])
    assert len(found) == 13 + 7
    for jpeg, pixels in zip(found, prepared, strict=True):
        with Image.open(io.BytesIO(jpeg)) as image:
            assert image.size == (8, 8)
            expected = io.BytesIO()
            Image.fromarray(pixels).save(expected, "JPEG", quality=80)
            assert image.tobytes() == Image.open(expected).tobytes()
    assert index.verify() == []


def test_thumbnails_of_vectors_are_refused(tmp_path, vector_hasher):
    np.save(tmp_path / "v.npy", np.ones((3, 6), np.float32))
    with pytest.raises(UserError, match="`thumbnails`.*takes vectors"):
        encode(tmp_path / "index", vector_hasher, tmp_path / "v.npy", thumbnails=96)


def test_another_hash_function_is_refused(tmp_path, photos, image_hasher):
    index, _ = encode(tmp_path / "index", image_hasher, photos)
    other = make_hasher("cnn", image_hasher.form, bits=16)
    with pytest.raises(UserError, match="bits"):
        encode_into(index, open_inputs([photos]).inputs, CONSOLE, hasher=other)


def test_a_full_disk_is_told_in_a_line_and_what_is_written_stays(
    tmp_path, photos, image_hasher, small_shards, monkeypatch
):
    written, add = [], Index.add

    def add_some(self, *arguments, **options):
        if written:
            raise OSError(28, "No space left on device", str(self.folder / "codes"))
        written.append(None)
        return add(self, *arguments, **options)

    with monkeypatch.context() as patch, pytest.raises(UserError, match="No space left.*goes on"):
        patch.setattr(Index, "add", add_some)
        encode(tmp_path / "index", image_hasher, photos)
    assert len(Index.open(tmp_path / "index")) == 5
    index, counts = encode(tmp_path / "index", image_hasher, photos)
    assert len(index) == 13 and counts.unchanged == 5


def test_a_shard_holds_fewer_of_larger_images():
    def size(*shape):
        return encode_index._shard_size(InputForm("images", shape, "uint8", 0.0, 1.0, 1.0))

    assert size(224, 224, 3) == 512 and size(8, 8, 1) == 2**14 > size(96, 96, 3) > 512

"""Arrays that are encoded: rows of .npy, .npz and Parquet files, and of data sets."""

import ml_dtypes
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jaxhash.data.input_form import InputForm
from jaxhash.data.inputs import open_inputs
from jaxhash.utils.errors import UserError

ALL = slice(None)
VECTORS = np.random.default_rng(0).normal(size=(11, 3)).astype(np.float32)


def form_of(array):
    kind, dtype = ("images", "uint8") if array.ndim == 4 else ("vectors", "float32")
    return InputForm(kind, array.shape[1:], dtype, 0.0, 1.0, 1.0, None if array.ndim == 4 else 1.0)


def open_one(path, form=None, **options):
    [inputs] = open_inputs([path], form, **options).inputs
    return inputs


@pytest.fixture
def write(tmp_path):
    """A function that writes arrays as a .npz."""

    def write(**arrays):
        np.savez(tmp_path / "file.npz", **arrays)
        return tmp_path / "file.npz"

    return write


@pytest.mark.parametrize(
    "dtype", ["float16", "float32", "float64", ">f4", "int8", "uint8", ml_dtypes.bfloat16]
)
def test_vectors_of_every_dtype_become_float32(tmp_path, dtype):
    stored = (VECTORS * 10).astype(dtype)
    np.save(tmp_path / "v.npy", stored)
    inputs = open_one(tmp_path / "v.npy", form_of(VECTORS))
    block = inputs.read(slice(2, 7), form_of(VECTORS))
    assert inputs.kind == "vectors" and len(inputs) == 11
    assert block.inputs.dtype == np.float32 and block.rows.tolist() == [2, 3, 4, 5, 6]
    np.testing.assert_array_equal(block.inputs, stored[2:7].astype(np.float32))
    assert [item.path for item in inputs.items(slice(9, 12))] == ["v.npy#9", "v.npy#10"]
    guessed = np.dtype(dtype).kind in "iu" or dtype is ml_dtypes.bfloat16
    assert bool(inputs.notes) == guessed


def test_digests_are_of_the_rows(tmp_path):
    np.save(tmp_path / "v.npy", VECTORS[[0, 1, 0]])
    digests = open_one(tmp_path / "v.npy").read(ALL, form_of(VECTORS)).digests
    assert digests[0] == digests[2] != digests[1]
    np.save(tmp_path / "w.npy", VECTORS[[1]])
    assert open_one(tmp_path / "w.npy").read(ALL, form_of(VECTORS)).digests == [digests[1]]


def test_the_fingerprint_is_of_the_content(tmp_path):
    np.save(tmp_path / "v.npy", VECTORS)
    np.save(tmp_path / "same.npy", VECTORS)
    np.save(tmp_path / "other.npy", VECTORS + 1)
    v, same, other = (open_one(tmp_path / f"{n}.npy").fingerprint for n in ("v", "same", "other"))
    assert v == same != other
    assert open_one("digits").fingerprint == open_one("digits").fingerprint


def test_vectors_that_are_not_finite_have_no_row(tmp_path):
    stored = VECTORS.astype(np.float64)
    stored[3, 1], stored[5, 0] = np.nan, 1e300
    np.save(tmp_path / "v.npy", stored)
    block = open_one(tmp_path / "v.npy").read(slice(2, 7), form_of(VECTORS))
    assert block.rows.tolist() == [2, 4, 6] and sorted(block.broken) == [3, 5]
    np.testing.assert_array_equal(block.inputs, VECTORS[[2, 4, 6]])
    assert len(block.digests) == 3


def test_a_feature_file_with_scale_labels_and_names(write):
    path = write(
        features=np.array([[1, 2], [3, 4], [5, 6]], np.int8),
        scale=np.array([0.5, 2.0]),
        labels=np.array([1, 0, -1]),
        class_names=np.array(["cat", "big dog"]),
        item_names=np.array(["a/1.png", "b 2", "猫"]),
    )
    inputs = open_one(path)
    block = inputs.read(ALL, form_of(np.zeros((1, 2))))
    np.testing.assert_array_equal(block.inputs, [[0.5, 4], [1.5, 8], [2.5, 12]])
    items = inputs.items(ALL)
    assert [item.path for item in items] == ["a/1.png", "b 2", "猫"]
    assert [item.label for item in items] == ["big dog", "cat", None]


def test_multi_hot_labels_are_listed(write):
    path = write(features=VECTORS[:2], labels=np.array([[1, 0, 1], [0, 0, 0]]))
    assert [item.label for item in open_one(path).items(ALL)] == ["0, 2", None]


def test_images_of_arrays(tmp_path, write):
    images = np.random.default_rng(0).integers(0, 256, (5, 4, 6, 3), np.uint8)
    np.save(tmp_path / "i.npy", images)
    inputs = open_one(tmp_path / "i.npy", form_of(images))
    assert inputs.kind == "images"
    np.testing.assert_array_equal(inputs.read(slice(1, 4), form_of(images)).inputs, images[1:4])
    np.save(tmp_path / "grey.npy", images[..., 0])
    grey = open_one(tmp_path / "grey.npy", form_of(images[..., :1]))
    np.testing.assert_array_equal(grey.read(ALL, form_of(images[..., :1])).inputs, images[..., :1])
    assert "one channel" in " ".join(grey.notes)
    np.testing.assert_array_equal(
        open_one(write(images=images, labels=np.arange(5))).read(ALL, form_of(images)).inputs,
        images,
    )


@pytest.mark.parametrize(
    ("array", "said"),
    [
        (np.zeros((2, 3, 4, 5), np.uint8), "1 or 3 channels"),
        (np.zeros((2, 4, 4, 3), np.float32), "uint8 images"),
        (np.zeros(4, np.float32), "vectors"),
        (np.zeros((2, 3), bool), "vectors"),
        (np.array([["a", "b"]]), "vectors"),
        (np.zeros((0, 3), np.float32), "empty"),
        (np.zeros((2, 3), np.complex64), "numbers"),
    ],
)
def test_arrays_that_are_neither_images_nor_vectors_are_refused(tmp_path, array, said):
    np.save(tmp_path / "file.npy", array)
    with pytest.raises(UserError, match=f"file.npy.*{said}"):
        open_inputs([tmp_path / "file.npy"])


def test_the_only_array_of_a_file_is_taken_and_said(write):
    inputs = open_one(write(embeddings=VECTORS, ids=np.arange(11)))
    assert len(inputs) == 11 and "embeddings" in " ".join(inputs.notes)
    with pytest.raises(UserError, match="'a', 'b'"):
        open_inputs([write(a=VECTORS, b=VECTORS)])


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"labels": np.arange(3)}, "labels has 3"),
        ({"item_names": np.array(["a"])}, "item_names has 1"),
        ({"scale": np.ones(4)}, "scale must be"),
        ({"labels": np.full(11, 2), "class_names": np.array(["cat"])}, "label 2"),
    ],
)
def test_arrays_that_do_not_fit_each_other_are_refused(write, arrays, said):
    with pytest.raises(UserError, match=said):
        open_inputs([write(features=VECTORS, **arrays)])


@pytest.mark.parametrize("other", [np.zeros((1, 4), np.float32), np.zeros((1, 8, 8, 1), np.uint8)])
def test_arrays_of_another_form_are_refused(tmp_path, other):
    np.save(tmp_path / "v.npy", VECTORS)
    with pytest.raises(UserError, match="v.npy"):
        open_inputs([tmp_path / "v.npy"], form_of(other))


# Parquet


def table(**columns):
    return pa.table(columns)


def lists(vectors):
    return pa.array(vectors.tolist(), pa.list_(pa.float32(), vectors.shape[1]))


@pytest.mark.parametrize("fixed", [True, False])
@pytest.mark.parametrize("kind", [pa.float32(), pa.float64(), pa.float16(), pa.int8()])
def test_parquet_of_fixed_and_variable_lists(tmp_path, kind, fixed):
    vectors = np.rint(VECTORS * 8).astype(np.float32)
    column = pa.array(
        vectors.astype(kind.to_pandas_dtype()).tolist(),
        pa.list_(kind, 3) if fixed else pa.list_(kind),
    )
    pq.write_table(
        table(vector=column, other=pa.array(range(11))), tmp_path / "e.parquet", row_group_size=4
    )
    inputs = open_one(tmp_path / "e.parquet", form_of(VECTORS))
    for rows in (slice(0, 3), slice(3, 9), slice(9, 11), slice(1, 2), ALL, slice(11, 11)):
        block = inputs.read(rows, form_of(VECTORS))
        np.testing.assert_array_equal(block.inputs, vectors[rows])
        assert block.rows.tolist() == list(range(11))[rows]
    assert inputs.items(slice(5, 6))[0].path == "e.parquet#5"
    assert "'vector'" in " ".join(inputs.notes)


def test_columns_for_names_and_labels_are_used_and_said(tmp_path):
    columns = table(
        emb=lists(VECTORS),
        name=pa.array([f"n {row}" for row in range(11)]),
        path=pa.array([None if row == 1 else f"p/{row}" for row in range(11)]),
        label=pa.array([f"{row % 2}" for row in range(11)]).dictionary_encode(),
    )
    pq.write_table(columns, tmp_path / "e.parquet", row_group_size=2)
    inputs = open_one(tmp_path / "e.parquet")
    items = inputs.items(slice(0, 4))
    assert [item.path for item in items] == ["p/0", "e.parquet#1", "p/2", "p/3"]
    assert [item.label for item in items] == ["0", "1", "0", "1"]
    notes = " ".join(inputs.notes)
    assert "'path'" in notes and "'label'" in notes and "'name'" not in notes


def test_rows_of_parquet_without_a_vector_are_broken(tmp_path):
    values = [*VECTORS[:3].tolist(), None, [1.0, 2.0], [1.0, None, 3.0], *VECTORS[6:].tolist()]
    pq.write_table(table(v=pa.array(values, pa.list_(pa.float32()))), tmp_path / "e.parquet")
    block = open_one(tmp_path / "e.parquet").read(ALL, form_of(VECTORS))
    assert sorted(block.broken) == [3, 4, 5]
    np.testing.assert_array_equal(block.inputs, VECTORS[[0, 1, 2, 6, 7, 8, 9, 10]])


def test_a_column_is_named_where_several_could_be_meant(tmp_path):
    pq.write_table(table(a=lists(VECTORS), b=lists(-VECTORS)), tmp_path / "e.parquet")
    with pytest.raises(UserError, match="a, b.*`column`"):
        open_inputs([tmp_path / "e.parquet"])
    inputs = open_one(tmp_path / "e.parquet", column="b")
    np.testing.assert_array_equal(inputs.read(ALL, form_of(VECTORS)).inputs, -VECTORS)
    with pytest.raises(UserError, match="`column=c`"):
        open_inputs([tmp_path / "e.parquet"], column="c")


@pytest.mark.parametrize("content", [b"", b"PAR1 no", b"PAR1" + bytes(50) + b"PAR1"])
def test_files_that_are_no_parquet_are_refused(tmp_path, content):
    (tmp_path / "e.parquet").write_bytes(content)
    with pytest.raises(UserError, match="e.parquet: not a readable Parquet file"):
        open_inputs([tmp_path / "e.parquet"])


def test_a_damaged_page_of_parquet_is_told_in_a_line(tmp_path):
    path = tmp_path / "e.parquet"
    pq.write_table(table(v=lists(VECTORS)), path, compression="zstd", row_group_size=5)
    inputs = open_one(path)
    content = bytearray(path.read_bytes())
    start = pq.read_metadata(path).row_group(1).column(0).data_page_offset
    content[start + 20 : start + 60] = bytes(40)
    path.write_bytes(content)
    with pytest.raises(UserError, match="e.parquet is damaged"):
        inputs.read(ALL, form_of(VECTORS))


# Data sets


def test_digits_and_files_are_opened_together(tmp_path):
    np.save(tmp_path / "v.npy", VECTORS)
    root, [digits, vectors] = open_inputs(["digits", tmp_path / "v.npy"])
    assert root == tmp_path and vectors.source == "v.npy"
    assert len(digits) == 1797 and digits.items(slice(3, 4))[0].label == "3"


def test_a_data_set_of_tfds(shared_data):
    inputs = open_one("tfds:fashion_mnist", data_dir=shared_data / "tfds")
    assert len(inputs) == 70_000
    item = inputs.items(slice(60_000, 60_001))[0]
    assert item.path == "tfds:fashion_mnist#test/0" and item.label
    assert inputs.read(slice(0, 2), form_of(np.zeros((1, 28, 28, 1), np.uint8))).inputs.shape == (
        (2, 28, 28, 1)
    )

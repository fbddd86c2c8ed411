"""Reads word counts: documents as sparse rows (CSR) in one .npz, which become dense batch by batch."""

import dataclasses
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse
from jaxtyping import Float32, Int

from jaxhash.data.readers.arrays import read_npz
from jaxhash.data.readers.features import read_class_names, read_item_names, read_parts
from jaxhash.data.readers.labels import check_class_ids, read_labels
from jaxhash.data.rows import Index
from jaxhash.data.sources import Source
from jaxhash.data.word_weights import WordWeights
from jaxhash.utils.errors import UserError

#: Arrays of a sparse matrix; in a file with several fields they follow the field and ``_``.
_CSR = ("indptr", "indices", "counts")

#: Arrays that a file of counts may hold beside them and ``vocabulary``.
_OPTIONAL = ("labels", "class_names", "split", "split_names", "item_names")

#: Number of documents without words that a note names.
_MAX_NAMED = 4


class CountRows:
    """Word counts as dense float32 rows, made on access from a sparse matrix.

    Args:
        matrix: counts [documents, words].
        vocabulary: the words.

    Example:
        >>> rows = CountRows(scipy.sparse.csr_matrix([[2, 0], [0, 0], [0, 1]]), ("a", "b"))
        >>> rows[[2, 0]], rows[0], rows.shape
        (array([[0., 1.],
               [2., 0.]], dtype=float32), array([2., 0.], dtype=float32), (3, 2))
    """

    def __init__(self, matrix: scipy.sparse.csr_matrix, vocabulary: tuple[str, ...]):
        self.matrix, self.vocabulary = matrix, vocabulary

    def __len__(self) -> int:
        return self.matrix.shape[0]

    def __getitem__(self, rows: Index | list[int]) -> Float32[np.ndarray, "..."]:
        dense = self.matrix[rows].toarray().astype(np.float32)
        return dense[0] if isinstance(rows, int | np.integer) else dense

    @property
    def shape(self) -> tuple[int, int]:
        """Number of documents and of words."""
        return self.matrix.shape

    @property
    def empty(self) -> Int[np.ndarray, " n"]:
        """The documents without words."""
        return np.flatnonzero(self.matrix.getnnz(axis=1) == 0)

    def take(self, items: Int[np.ndarray, " items"]) -> "CountRows":
        """Returns the rows of some documents, still sparse."""
        return CountRows(self.matrix[items], self.vocabulary)

    def weights(self, items: Int[np.ndarray, " items"]) -> WordWeights:
        """Returns the weights of the words by some documents, which count once each."""
        frequencies = self.matrix[items].getnnz(axis=0)
        return WordWeights(len(items), tuple(frequencies.tolist()), self.vocabulary)


#: Begins the note on documents without words.
EMPTY_NOTE = "documents without words"


class CountFile(NamedTuple):
    """The content of a file of counts.

    Attributes:
        rows: the counts.
        arrays: the other arrays of the file, by name.
        notes: sentences on what was guessed.
    """

    rows: CountRows
    arrays: dict[str, np.ndarray]
    notes: tuple[str, ...]


def split_field(name: str) -> tuple[str, str | None]:
    """Returns the file and the field of ``FILE.npz:FIELD``; the field is None without one.

    Example:
        >>> split_field("text/reuters.npz:title"), split_field("news.npz")
        (('text/reuters.npz', 'title'), ('news.npz', None))
    """
    file, suffix, field = name.rpartition(".npz:")
    return (f"{file}.npz", field) if suffix else (name, None)


def read_counts(name: str, path: Path) -> Source:
    """Reads the documents of a .npz file of word counts.

    The counts are a sparse matrix by the arrays ``indptr``, ``indices`` and ``counts`` (CSR) over the
    words of ``vocabulary``. A file may hold several fields of each document, such as its title and
    its body, whose arrays are ``title_indptr`` and so on: ``FILE.npz:title`` reads one of them, and
    FILE.npz their sum. The arrays ``labels``, ``class_names``, ``split``, ``split_names`` and
    ``item_names`` are those of `jaxhash.data.readers.features.read_features`.

    Args:
        name: name of the source.
        path: the file, maybe with a field.

    Raises:
        UserError: if the file cannot be read, or an array does not fit the others.
    """
    file, _ = split_field(str(path))
    rows, arrays, notes = read_count_file(path)
    if "labels" not in arrays:
        raise UserError(
            f"{file}: no array 'labels'; of items without classes it is np.arange(items)"
        )
    labels = read_labels(arrays["labels"], file)
    if len(labels) != len(rows):
        raise UserError(f"{file}: {len(rows):,} documents, and labels have {len(labels):,} rows")
    check_class_ids(labels, len(labels), file)
    parts, part_ids = read_parts(arrays.get("split"), arrays.get("split_names"), labels, file)
    source = Source(
        name,
        rows,
        labels,
        read_class_names(arrays.get("class_names"), labels, file),
        part_ids,
        parts=parts,
        item_names=read_item_names(arrays.get("item_names"), labels, file),
        notes=notes,
    )
    return source if not len(rows.empty) else _with_empty_note(source)


def read_count_file(path: Path) -> CountFile:
    """Reads the counts of a file, without its labels' meaning; see `read_counts`."""
    file, field = split_field(str(path))
    if not Path(file).is_file():
        raise UserError(f"{file}: there is no such file of counts; `data_dir` names its folder")
    arrays = read_npz(Path(file), "vocabulary", optional=None)
    fields = [
        key.removesuffix("indptr").removesuffix("_")
        for key in arrays
        if key == "indptr" or key.endswith("_indptr")
    ]
    if field is not None and field not in fields or not fields:
        there = ", ".join(map(repr, fields)) or "none"
        wanted = f"field {field!r}" if field is not None else "array 'indptr'"
        raise UserError(f"{file}: no {wanted}; its fields of counts are {there}")
    vocabulary = arrays["vocabulary"]
    if vocabulary.ndim != 1 or vocabulary.dtype.kind != "U" or not vocabulary.size:
        raise UserError(
            f"{file}: vocabulary must be one string for each word, got shape {vocabulary.shape} of "
            f"{vocabulary.dtype}"
        )
    if len(np.unique(vocabulary)) < len(vocabulary):
        raise UserError(f"{file}: vocabulary has a word twice")
    notes: tuple[str, ...] = ()
    if field is None:
        fields = [""] if "" in fields else fields
        if len(fields) > 1:
            notes = (f"words are counted in {' and '.join(fields)} together",)
    else:
        fields = [field]
    matrices = [_matrix(arrays, each, len(vocabulary), file) for each in fields]
    if len({matrix.shape[0] for matrix in matrices}) > 1:
        counted = ", ".join(f"{f} {m.shape[0]:,}" for f, m in zip(fields, matrices, strict=True))
        raise UserError(f"{file}: fields have different numbers of documents: {counted}")
    matrix = sum(matrices[1:], start=matrices[0])
    words = tuple(vocabulary.tolist())
    held = {key: array for key, array in arrays.items() if key in _OPTIONAL}
    return CountFile(CountRows(scipy.sparse.csr_matrix(matrix), words), held, notes)


def _matrix(
    arrays: dict[str, np.ndarray], field: str, words: int, file: str
) -> scipy.sparse.csr_matrix:
    """Returns the counts of a field as float32, without stored zeros, repeated entries added up."""
    names = [f"{field}_{name}" if field else name for name in _CSR]
    for name in names:
        if name not in arrays:
            raise UserError(f"{file}: no array {name!r}")
    indptr, indices, counts = (arrays[name] for name in names)
    for name, array, kinds in zip(
        names, (indptr, indices, counts), ("iu", "iu", "iuf"), strict=True
    ):
        if array.ndim != 1 or array.dtype.kind not in kinds:
            raise UserError(
                f"{file}: {name} must be one-dimensional, of {'numbers' if 'f' in kinds else 'integers'}, "
                f"got shape {array.shape} of {array.dtype}"
            )
    indptr = indptr.astype(np.int64)
    fits = (
        len(indptr) > 1
        and indptr[0] == 0
        and indptr[-1] == len(indices) == len(counts)
        and (np.diff(indptr) >= 0).all()
    )
    if not fits:
        raise UserError(
            f"{file}: {names[0]} must rise from 0 to the {len(indices):,} {names[1]} and "
            f"{len(counts):,} {names[2]}"
        )
    if len(indices) and not 0 <= indices.min() <= indices.max() < words:
        raise UserError(f"{file}: {names[1]} must be below {words:,}, the words of vocabulary")
    values = counts.astype(np.float32)
    if not (np.isfinite(values) & (values >= 0)).all():
        raise UserError(f"{file}: {names[2]} must be finite numbers of at least 0")
    matrix = scipy.sparse.csr_matrix(
        (values, indices.astype(np.int32), indptr), (len(indptr) - 1, words)
    )
    matrix.sum_duplicates()
    matrix.eliminate_zeros()
    return matrix


def _with_empty_note(source: Source) -> Source:
    """Returns the source with a note that names the documents without words."""
    empty: Any = source.inputs.empty
    named = ", ".join(source.name_of(item) for item in empty[:_MAX_NAMED])
    more = f" and {len(empty) - _MAX_NAMED:,} more" if len(empty) > _MAX_NAMED else ""
    note = f"{EMPTY_NOTE}, which all get the same code: {len(empty):,} ({named}{more})"
    return dataclasses.replace(source, notes=(*source.notes, note))

"""Search of an index against a sort of all distances: shards, removed items, equal codes, conditions."""

from typing import NamedTuple

import faiss
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from search_oracle import all_distances, nearest, packed_codes, within

from jaxhash.retrieval.index import Index, cache, groups
from jaxhash.utils.errors import UserError


class Item(NamedTuple):
    path: str
    label: str | None
    size: int = 1
    mtime_ns: int = 1


class MadeHasher:
    """What an index needs of a hash function."""

    digest, check_code = "ab" * 32, "ff"

    def __init__(self, bits):
        self.bits = bits

    def save(self, folder):
        folder.mkdir(exist_ok=True)


def make_index(folder, bits, *, shards=(100, 1, 60), distinct=None, removed=(), keep=None):
    """An index, its live ids, their codes and their labels."""
    index = Index.create(folder, MadeHasher(bits), root=None, keep=keep)
    count = sum(shards)
    codes = packed_codes(count, bits, 3, distinct=distinct)
    labels = np.array(["cat", "dog", "写真", "it's"])[np.arange(count) % 4]
    for rows in np.split(np.arange(count), np.cumsum(shards)[:-1]):
        items = [Item(f"{row}.png", labels[row]) for row in rows]
        vectors = vectors_of(rows) if keep else None
        index.add(codes[rows], items, [f"{row:032x}" for row in rows], vectors=vectors)
    index.remove(removed)
    ids = np.setdiff1d(np.arange(count), removed)
    return index, ids, codes[ids], labels[ids]


def vectors_of(rows):
    return np.random.default_rng(5).normal(size=(500, 6)).astype(np.float16)[rows]


def assert_found(found, expected):
    for array, other in zip(found, expected, strict=False):
        np.testing.assert_array_equal(array, other)


REMOVED = [0, 7, 100, 130, 160]


@pytest.mark.parametrize("bits", [8, 12, 64, 100, 256])
@pytest.mark.parametrize("distinct", [None, 20])
@pytest.mark.parametrize("removed", [(), REMOVED])
def test_an_index_finds_what_brute_force_finds(tmp_path, bits, distinct, removed):
    index, ids, codes, labels = make_index(tmp_path / "i", bits, distinct=distinct, removed=removed)
    queries = np.concatenate([packed_codes(34, bits, 9), codes[5:9]])
    for k in (1, 10, len(ids)):
        distances, rows = nearest(queries, codes, k)
        found = index.search(queries, k)
        assert_found(found, (distances, ids[rows]))
        at_last = all_distances(queries, codes) == distances[:, -1:]
        ties = index.count_ties(queries, found)
        shown = (distances == distances[:, -1:]).sum(axis=1)
        assert_found(ties, (distances[:, -1], shown, at_last.sum(axis=1)))
    for radius in (0, bits // 4, bits):
        for query, result in zip(queries, index.range_search(queries, radius), strict=True):
            distances, rows = within(query, codes, radius)
            assert_found(result, (distances, ids[rows]))
    is_grouped = cache.open_cache(index._state).is_grouped
    assert is_grouped == (len(np.unique(codes, axis=0)) <= len(codes) // 2)


@pytest.mark.parametrize("label", ["写真", ["cat", "it's"]])
def test_among_the_items_of_a_label(tmp_path, label):
    index, ids, codes, labels = make_index(tmp_path / "i", 12, removed=REMOVED)
    queries, here = packed_codes(9, 12, 9), np.isin(labels, label)
    distances, rows = nearest(queries, codes[here], 8)
    where = {"label": label}
    found = index.search(queries, 8, where=where)
    assert_found(found, (distances, ids[here][rows]))
    ties = index.count_ties(queries, found, where=where)
    at_last = all_distances(queries, codes[here]) == distances[:, -1:]
    np.testing.assert_array_equal(ties.total, at_last.sum(axis=1))
    for query, result in zip(queries, index.range_search(queries, 4, where=where), strict=True):
        distances, rows = within(query, codes[here], 4)
        assert_found(result, (distances, ids[here][rows]))
    with pytest.raises(UserError, match=f"`k=200` is above .* {here.sum()}"):
        index.search(queries, 200, where=where)
    with pytest.raises(UserError, match="no item has the label 'none'"):
        index.search(queries, 1, where={"label": "none"})
    with pytest.raises(UserError, match="`where`"):
        index.search(queries, 1, where={"size": 3})


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.data())
def test_groups_of_equal_codes_hold_every_item_once(monkeypatch, data):
    """In any blocks, in parts of a few ids, and in the order of the first item of each group."""
    monkeypatch.setattr(groups, "_ROWS", 7)
    monkeypatch.setattr(groups, "_IDS", 11)
    n, bits = data.draw(st.integers(1, 60)), data.draw(st.sampled_from([8, 64, 72, 192]))
    codes = packed_codes(n, bits, n, distinct=data.draw(st.integers(1, n)))
    ids = np.arange(n) * 3 + 1
    cuts = sorted(data.draw(st.lists(st.integers(0, n), max_size=3)))

    def blocks():
        return zip(np.split(ids, cuts), np.split(codes, cuts), strict=True)

    rows = {}
    for row, code in enumerate(codes):
        rows.setdefault(code.tobytes(), []).append(row)
    grouping = groups.group_equal_codes(blocks, n)
    if len(rows) > n // 2:
        assert grouping is None
        return
    assert [code.tobytes() for code in grouping.codes] == list(rows)
    found = np.split(np.concatenate(list(grouping.ids_by_group(blocks))), grouping.starts[1:-1])
    assert [each.tolist() for each in found] == [ids[each].tolist() for each in rows.values()]


def test_codes_of_one_hash_are_not_grouped(monkeypatch):
    monkeypatch.setattr(groups, "_hash", lambda codes: codes[:, 0].astype(np.uint64))
    codes = np.array([[1, 1]] * 5 + [[1, 2]], np.uint8)
    assert groups.group_equal_codes(lambda: [(np.arange(6), codes)], 6) is None


def test_the_cache_is_a_file_of_faiss(tmp_path):
    index, ids, codes, _ = make_index(tmp_path / "i", 64, removed=REMOVED)
    queries = packed_codes(3, 64, 9)
    index.search(queries, 2)
    stored = faiss.read_index_binary(str(index.folder / "faiss.index"))
    assert stored.d == 64 and stored.ntotal == len(ids)
    distances, rows = stored.search(queries, 5)
    assert_found(index.search(queries, 5), (distances, ids[rows]))


def damage(path, how):
    content = path.read_bytes()
    {
        "missing": path.unlink,
        "cut off": lambda: path.write_bytes(content[:-20]),
        "empty": lambda: path.write_bytes(b""),
        "a part is missing": lambda: path.write_bytes(content[:64] + content[96:]),
        "not ours": lambda: path.write_bytes(b"\xff" * 1000),
        "of another version": lambda: path.write_bytes(content.replace(b"search-1", b"search-0")),
    }[how]()


@pytest.mark.parametrize(
    "how",
    ["missing", "cut off", "empty", "a part is missing", "not ours", "of another version"],
)
def test_a_cache_that_is_no_good_is_made_again(tmp_path, how):
    index, ids, codes, _ = make_index(tmp_path / "i", 12)
    queries, path = packed_codes(3, 12, 9), tmp_path / "i" / "faiss.index"
    expected = index.search(queries, 5)
    content = path.read_bytes()
    damage(path, how)
    assert_found(Index.open(index.folder).search(queries, 5), expected[:2])
    assert path.read_bytes() == content
    assert [each.name for each in index.folder.glob("faiss.index*")] == ["faiss.index"]


def test_a_change_of_the_index_is_found(tmp_path):
    """Also by a reader that has the cache open, once it opens the index again."""
    index, *_ = make_index(tmp_path / "i", 12)
    reader, query = Index.open(index.folder), packed_codes(1, 12, 77)
    before = reader.search(query, 3)
    nearest_id = int(before.ids[0, 0])
    index.remove([nearest_id])
    assert nearest_id not in index.search(query, 3).ids
    [new] = index.add(query, [Item("new.png", None)], ["0" * 32])
    assert index.search(query, 1).ids.tolist() == [[new]]
    assert Index.open(index.folder).search(query, 1).ids.tolist() == [[new]]
    assert_found(reader.search(query, 3), before[:2])


def test_a_reader_of_an_old_state_leaves_the_cache_of_it(tmp_path):
    """The next reader of the new state sees that the cache is of another."""
    index, *_ = make_index(tmp_path / "i", 12)
    reader, query = Index.open(index.folder), packed_codes(1, 12, 77)
    index.add(query, [Item("new.png", None)], ["0" * 32])
    assert len(index) - 1 not in reader.search(query, 1).ids
    assert index.search(query, 1).ids.tolist() == [[len(index) - 1]]


def test_a_folder_that_cannot_be_written_is_searched(tmp_path, monkeypatch, capsys):
    index, ids, codes, _ = make_index(tmp_path / "i", 12, removed=REMOVED, distinct=20)

    def refuse(*_):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(cache, "whole_file", refuse)
    queries = packed_codes(3, 12, 9)
    distances, rows = nearest(queries, codes, 5)
    for _ in range(2):
        assert_found(index.search(queries, 5), (distances, ids[rows]))
    [line] = capsys.readouterr().err.splitlines()  # once
    assert "Read-only file system" in line
    assert not list(index.folder.glob("faiss.index*"))


def test_more_neighbors_than_groups_are_searched_for(tmp_path, monkeypatch):
    monkeypatch.setattr("jaxhash.retrieval.index.search.MAX_GROUP_K", 7)
    index, ids, codes, _ = make_index(tmp_path / "i", 12, distinct=20)
    queries, by_groups = packed_codes(3, 12, 9), []
    search = cache.SearchCache.search
    monkeypatch.setattr(
        cache.SearchCache, "search", lambda *each: by_groups.append(each[2]) or search(*each)
    )
    for k in (7, 8):
        distances, rows = nearest(queries, codes, k)
        assert_found(index.search(queries, k), (distances, ids[rows]))
    assert by_groups == [7]


def test_the_best_are_ranked_again_by_cosine(tmp_path, unchecked):
    index, ids, codes, _ = make_index(
        tmp_path / "i", 12, removed=REMOVED, keep={"floats": "float16"}
    )
    queries, vectors = packed_codes(4, 12, 9), vectors_of(np.arange(490, 494)).astype(np.float32)
    found = index.search(queries, 3, rescore=vectors, rescore_multiplier=5)
    distances, rows = nearest(queries, codes, 15)
    for query in range(4):
        kept = vectors_of(ids[rows[query]]).astype(np.float32)
        cosine = kept @ vectors[query]
        cosine /= np.linalg.norm(kept, axis=1) * np.linalg.norm(vectors[query])
        order = np.argsort(-cosine)[:3]
        assert found.ids[query].tolist() == ids[rows[query]][order].tolist()
        assert found.distances[query].tolist() == distances[query][order].tolist()
        np.testing.assert_allclose(found.scores[query], cosine[order], rtol=1e-5)
    every = index.search(queries, len(ids), rescore=vectors)
    assert (np.diff(every.scores, axis=1) <= 0).all()
    for wrong, said in ((vectors[:3], "3 vectors for 4"), (vectors[:, :5], "of 5 numbers")):
        with pytest.raises(UserError, match=said):
            index.search(queries, 3, rescore=wrong)
    empty = index.search(queries[:0], 3, rescore=vectors[:0])
    assert empty.ids.shape == empty.scores.shape == (0, 3)


def test_what_cannot_be_searched(tmp_path, unchecked):
    index, *_ = make_index(tmp_path / "i", 12, shards=(4,))
    queries = packed_codes(2, 12, 0)
    for arguments, options, said in (
        ((queries, 5), {}, "`k=5` is above the number of items, 4"),
        ((queries, 0), {}, "`k` must be at least 1"),
        ((queries[:, :1], 1), {}, r"uint8 \[n, 2\]"),
        ((queries.view(np.int8), 1), {}, "int8"),
        ((queries, 1), {"rescore": np.ones((2, 3))}, "keeps no vectors"),
    ):
        with pytest.raises(UserError, match=said):
            index.search(*arguments, **options)
    with pytest.raises(UserError, match="`radius`"):
        index.range_search(queries, -1)


def test_an_index_without_items(tmp_path):
    index = Index.create(tmp_path / "i", MadeHasher(12), root=None)
    queries = packed_codes(2, 12, 0)
    with pytest.raises(UserError, match="`k=1` is above the number of items, 0"):
        index.search(queries, 1)
    assert [len(each.ids) for each in index.range_search(queries, 12)] == [0, 0]

"""Near duplicates of an index, against every pair of its items one after another."""

import numpy as np
import pytest
from duplicate_oracle import against, as_dict, components, sort_by_rule, star
from index_samples import Item, digests_of, make_index
from search_oracle import all_distances, packed_codes

from jaxhash.retrieval.near_duplicates.find import find_near_duplicates
from jaxhash.retrieval.near_duplicates.keep import KEEP_RULES
from jaxhash.utils.errors import UserError

ITEMS = 60


def codes_12(seed, count=ITEMS):
    """Codes of 12 bits, a third of them distinct."""
    codes = packed_codes(count, 16, seed, distinct=max(1, count // 3))
    codes[:, 1] &= 0xF0
    return codes


def fill_index(folder, codes, sizes=(25, 25, 10), seed=0):
    """An index in shards, some of whose files are of one size or one time."""
    index, rng, row = make_index(folder), np.random.default_rng(seed), 0
    for size in sizes:
        items = [
            Item(
                f"{row + place}.png", int(rng.integers(5)), int(rng.integers(1, 9)), f"{place % 3}"
            )
            for place in range(size)
        ]
        index.add(codes[row : row + size], items, digests_of(size))
        row += size
    return index


def by_rule(index, rule):
    """Ids and codes of an index in keep order."""
    ids = np.concatenate([ids for ids, _ in index.blocks()])
    ids = [item.id for item in sort_by_rule(index.items(ids), rule)]
    return ids, index.codes(ids)


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    index = fill_index(tmp_path_factory.mktemp("made") / "index", codes_12(0))
    index.remove([0, 3, 26, 59])
    return index


@pytest.mark.parametrize("rule", KEEP_RULES)
@pytest.mark.parametrize("radius", [0, 1, 2, 4])
def test_groups_are_those_of_every_pair(index, rule, radius):
    ids, codes = by_rule(index, rule)
    found = find_near_duplicates(index, radius, keep=rule)
    expected = star(ids, codes, radius)
    assert as_dict(found.group("star")) == expected
    assert list(as_dict(found.group("star"))) == [
        id for id in ids if id in expected
    ]  # in keep order
    assert as_dict(found.group("components")) == components(ids, codes, radius)


@pytest.mark.parametrize("seed", range(8))
def test_properties_of_stars(tmp_path, seed):
    """Members are near their kept item, which comes first; kept items are not near each other."""
    index = fill_index(tmp_path / "index", codes_12(seed), seed=seed)
    radius, rule = seed % 4, list(KEEP_RULES)[seed % len(KEEP_RULES)]
    ids, codes = by_rule(index, rule)
    place = {id: place for place, id in enumerate(ids)}
    distances = all_distances(codes, codes)
    groups = as_dict(find_near_duplicates(index, radius, keep=rule).group())
    duplicates = [id for group in groups.values() for _, id in group]
    assert len(duplicates) == len(set(duplicates))
    for kept, group in groups.items():
        for distance, id in group:
            assert distance == distances[place[kept], place[id]] <= radius
            assert place[kept] < place[id]
    kept = [place[id] for id in ids if id not in set(duplicates)]
    near = distances[np.ix_(kept, kept)] <= radius
    assert near.sum() == len(kept)  # each is near itself alone


@pytest.mark.parametrize("kind", ["star", "components"])
def test_shards_removals_and_compaction_change_nothing(tmp_path, kind):
    """The items are in three shards, in one, and among others that are removed, then compacted away."""
    codes = codes_12(1)
    indexes = [fill_index(tmp_path / "three", codes), fill_index(tmp_path / "one", codes, (ITEMS,))]
    more = fill_index(tmp_path / "more", np.concatenate([codes, codes_12(2)]), (70, 50))
    more.remove(range(ITEMS, 2 * ITEMS))
    indexes += [more]
    groups = [as_dict(find_near_duplicates(each, 2).group(kind)) for each in indexes]
    more.compact()
    groups.append(as_dict(find_near_duplicates(more, 2).group(kind)))
    assert groups[0] and all(each == groups[0] for each in groups)


@pytest.mark.parametrize("rule", ["first", "last", "newest"])
@pytest.mark.parametrize("radius", [0, 2])
def test_against_another_index(index, tmp_path, rule, radius):
    """Its items are kept, and two items of one index are never compared."""
    other = fill_index(tmp_path / "other", codes_12(3), seed=9)
    (ids, codes), (other_ids, others) = by_rule(index, rule), by_rule(other, rule)
    found = find_near_duplicates(index, radius, keep=rule, against=other)
    expected = against(ids, codes, other_ids, others, radius)
    assert as_dict(found.group()) == expected
    near = all_distances(codes, others) <= radius
    labels, other_labels = (
        [each.label for each in i.items(n)] for i, n in ((index, ids), (other, other_ids))
    )
    alike = np.array(labels)[:, None] == np.array(other_labels)
    assert found.counts[-1] == (radius, near.sum(), near.sum(), (near & alike).sum())
    assert found.links is None and found.check_chaining("star") is None


@pytest.mark.parametrize("radius", [0, 3])
def test_counts_of_pairs_and_links(index, radius):
    ids, codes = by_rule(index, "first")
    found = find_near_duplicates(index, radius)
    distances = all_distances(codes, codes)[np.triu_indices(len(ids), 1)]
    labels = np.array([item.label for item in index.items(ids)])
    alike = (labels[:, None] == labels)[np.triu_indices(len(ids), 1)]
    for counts, links in zip(found.counts, found.links, strict=True):
        near = distances <= counts.radius
        assert counts[1:] == (near.sum(), near.sum(), (near & alike).sum())
        groups = components(ids, codes, links.radius).values()
        sizes = [len(group) + 1 for group in groups]
        far = [max(group)[0] for group in groups]
        chained = [size for size, d in zip(sizes, far, strict=True) if d > links.radius]
        expected = (len(sizes), max(sizes), max(far), len(chained), max(chained, default=0))
        assert links[1:] == expected


def test_pairs_at_the_boundary(index, tmp_path):
    ids, codes = by_rule(index, "last")
    distances = all_distances(codes, codes)
    found = find_near_duplicates(index, 3, keep="last")
    pairs = found.boundary(4)
    assert len(pairs) == 4 and len(set(pairs)) == 4
    for first, second, distance in pairs:
        assert distance == distances[ids.index(first), ids.index(second)] == 3
        assert ids.index(first) < ids.index(second)
    assert {pair.distance for pair in find_near_duplicates(index, 0).boundary(4)} == {0}
    other = fill_index(tmp_path / "other", codes_12(3))
    for first, second, distance in find_near_duplicates(index, 2, against=other).boundary(5):
        [[expected]] = all_distances(other.codes([first]), index.codes([second]))
        assert distance == expected == 2


@pytest.mark.parametrize("count", [0, 1])
def test_nothing_to_group(tmp_path, count):
    index = fill_index(tmp_path / "index", codes_12(0, count), (count,))
    found = find_near_duplicates(index, 3)
    for kind in ("star", "components"):
        assert as_dict(found.group(kind)) == {}
        found.check_chaining(kind)
    assert found.boundary(3) == []
    assert (
        find_near_duplicates(index, 3, against=fill_index(tmp_path / "b", codes_12(0))).items
        == count
    )


def test_an_index_that_is_changed_meanwhile(index, tmp_path):
    from jaxhash.retrieval.near_duplicates.columns import read_columns

    with pytest.raises(UserError, match="has been changed meanwhile"):
        read_columns(index, np.array([1, 3]), ["path"])
    table = read_columns(index, np.array([27, 1, 58]), ["path", "label"])
    assert table["path"].to_pylist() == ["27.png", "1.png", "58.png"]


def test_a_large_group_of_equal_codes_takes_no_pairs(tmp_path):
    index = make_index(tmp_path / "index")
    codes = np.repeat(codes_12(0, 1), 50_000, axis=0)
    index.add(codes, [Item(f"{row}") for row in range(50_000)], digests_of(50_000))
    found = find_near_duplicates(index, 2)
    assert len(found.pairs.first) == 0 and found.counts[0].pairs == 50_000 * 49_999 // 2
    [[kept, group]] = as_dict(found.group()).items()
    assert kept == 0 and group == [(0, id) for id in range(1, 50_000)]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"radius": -1}, "`radius` must be from 0 to 11, got -1"),
        ({"radius": 12}, "`radius`"),
        ({"radius": 1, "keep": "best"}, "`keep` must be one of first, last"),
    ],
)
def test_arguments_that_are_not_allowed(index, options, said):
    with pytest.raises(UserError, match=said):
        find_near_duplicates(index, **options)


def test_rules_that_compare_files_need_some(tmp_path):
    index = make_index(tmp_path / "index")
    index.add(codes_12(0, 2), [Item("a#0", 8, 0), Item("a#1", 8, 0)], digests_of(2))
    with pytest.raises(UserError, match="`keep=oldest` compares files"):
        find_near_duplicates(index, 1, keep="oldest")
    # Items that are no files come after those that are.
    index.add(codes_12(0, 2)[:1], [Item("b.png", 1, 5)], digests_of(1))
    codes = index.codes([0, 2])
    assert (codes[0] == codes[1]).all()
    assert as_dict(find_near_duplicates(index, 0, keep="largest").group())[2][0] == (0, 0)

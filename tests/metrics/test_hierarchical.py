"""Hierarchical precision: every order of the ties, values from labels alone, counts by a loop."""

from itertools import product

import jax
import numpy as np
import pytest
from oracles import TIES, frozen, random_database, similarity_rankings
from oracles import average_hierarchical_precision as ahp_of
from oracles import hierarchical_precision as hp_of

from jaxhash.metrics import (
    SimilarityCounts,
    _class_counts,
    average_hierarchical_precision,
    average_hierarchical_precision_from_scores,
    distance_counts,
    hierarchical_precision,
    leave_one_out,
    mean_average_hierarchical_precision,
    precision_at_k,
    recall_at_k,
    similarity_counts,
    similarity_counts_from_scores,
)

FORMS = ("trapezoid", "mean")
SUMMARY = {"worst": np.min, "expected": np.mean, "best": np.max}


def ranked(similarities):
    """Counts of one ranking without ties."""
    scores = -np.arange(float(len(similarities)))
    return similarity_counts_from_scores(scores, np.array(similarities))


def random_counts(queries, distances, items, seed):
    """Draws two or three positive similarities; the last query has one fewer."""
    some = random_database(queries, distances, items, seed, levels=3)
    similarity = np.tile([1.5, 1.0, 0.25], (queries, 1))
    of_level = some.gains.copy()
    of_level[-1, :, 2] = similarity[-1, 2] = 0
    return SimilarityCounts(frozen(some.total), frozen(of_level), frozen(similarity))


@pytest.fixture(scope="module")
def one_device():
    return jax.local_devices()[:1]


# Every order


@pytest.mark.parametrize("seed", range(4))
def test_every_order_of_ties(seed):
    some = random_counts(4, 3, 7, seed)
    every = list(similarity_rankings(some))
    for ties, k in product(TIES, range(1, 8)):
        expected = [SUMMARY[ties]([hp_of(r, k) for r in rankings]) for rankings in every]
        np.testing.assert_allclose(hierarchical_precision(some, k, ties=ties), expected)
    for ties, k, form in product(TIES, [None, 1, 2, 5, 7], FORMS):
        expected = [SUMMARY[ties]([ahp_of(r, k, form) for r in rankings]) for rankings in every]
        found = average_hierarchical_precision(some, k, form=form, ties=ties)
        np.testing.assert_allclose(found, expected, atol=1e-12, err_msg=f"{ties} {k} {form}")
        mean = mean_average_hierarchical_precision(some, k, form=form, ties=ties)
        assert mean == pytest.approx(np.mean(expected), abs=1e-12)


def test_of_similarities_zero_and_one_it_is_precision_while_the_ideal_is_one():
    binary = random_database(9, 5, 60, seed=1)
    some = SimilarityCounts(binary.total, binary.relevant[..., None], np.ones((9, 1)))
    least = int(binary.relevant.sum(axis=1).min())
    for ties in TIES:
        found = hierarchical_precision(some, least, ties=ties)
        np.testing.assert_allclose(found, precision_at_k(binary, least, ties=ties))
        found = hierarchical_precision(some, 60, ties=ties)
        np.testing.assert_allclose(found, recall_at_k(binary, 60, ties=ties))


# By hand


def test_by_hand():
    """Similarities 0.5, 1, 0, 0.5 against the ideal 1, 0.5, 0.5, 0."""
    some = ranked([0.5, 1.0, 0.0, 0.5])
    values = [hierarchical_precision(some, k).item() for k in (1, 2, 3, 4)]
    assert values == pytest.approx([0.5, 1, 0.75, 1])
    assert average_hierarchical_precision(some, 4).item() == pytest.approx(0.625)
    assert average_hierarchical_precision(some, 4, form="mean").item() == pytest.approx(0.8125)


def test_a_perfect_ranking():
    some = ranked([1.0, 0.5, 0.5, 0.25, 0.0, 0.0])
    for k in range(1, 7):
        assert hierarchical_precision(some, k).item() == pytest.approx(1)
        assert average_hierarchical_precision(some, k).item() == pytest.approx((k - 1) / k)
        assert average_hierarchical_precision(some, k, form="mean").item() == pytest.approx(1)


def test_a_query_that_nothing_is_similar_to_has_zero():
    nothing, something = ranked([0.0, 0.0]), ranked([0.0, 1.0])
    for ties in TIES:
        assert hierarchical_precision(nothing, 2, ties=ties).item() == 0
        assert average_hierarchical_precision(nothing, 2, ties=ties).item() == 0
    wider = nothing._replace(items=np.zeros((1, 2, 1), int), similarity=np.zeros((1, 1)))
    both = SimilarityCounts(
        *(np.concatenate(parts) for parts in zip(wider[:3], something[:3], strict=True))
    )
    assert mean_average_hierarchical_precision(both, 2, form="mean") == pytest.approx(0.25)


def test_the_unit_of_similarity_does_not_matter():
    some = random_counts(5, 4, 40, seed=2)
    other = some._replace(similarity=7.3 * some.similarity)
    for ties in TIES:
        found, expected = (average_hierarchical_precision(s, 20, ties=ties) for s in (other, some))
        np.testing.assert_allclose(found, expected, rtol=1e-12)


# A two-level tree, in closed form


def two_levels(classes, each):
    """1 for the same class, 0.5 for the same group of ``each`` classes."""
    same = np.eye(classes)
    group = np.arange(classes) // each
    return np.maximum(same, 0.5 * (group[:, None] == group))


def codes_at_equal_distances(rows, bits=128):
    """Rows that differ in half of the bits from one another."""
    hadamard = np.ones((1, 1), np.int8)
    while len(hadamard) < bits:
        hadamard = np.block([[hadamard, hadamard], [hadamard, -hadamard]])
    return hadamard[:rows]


def harmonic(a, b, first, last):
    """The sum of (a + b k) / (250 + k / 2) over the ranks k in a range."""
    k = np.arange(first, last + 1.0)
    return np.sum((a + b * k) / (250 + k / 2))


def test_values_of_a_two_level_tree_from_labels(one_device):
    """100 classes of 500 in groups of 5: the ideal is k up to 500, then 250 + k/2, up to 2500.

    Known from random rankings: random 0.041, classes perfect and the rest random 0.654, groups
    perfect 0.817.
    """
    classes, group = np.arange(100), np.arange(100) // 5
    labels = np.repeat(classes, 500)
    equal = codes_at_equal_distances(100)
    mean, rest, of_group = 1500 / 50_000, 1000 / 49_500, 0.6
    expected = {
        "random": (500 * mean + harmonic(0, mean, 501, 2500), 0.041),
        "class": (500 + harmonic(500 * (1 - rest), rest, 501, 2500), 0.654),
        "group": (500 * of_group + harmonic(0, of_group, 501, 2500), 0.817),
    }
    codes = {"random": np.ones((100, 1), np.int8), "class": equal, "group": equal[group]}
    for name, (total, known) in expected.items():
        some = similarity_counts(
            codes[name],
            classes,
            codes[name][labels],
            labels,
            two_levels(100, 5),
            devices=one_device,
        )
        found = average_hierarchical_precision(some, 2500, form="mean")
        np.testing.assert_allclose(found, total / 2500, rtol=1e-12)
        assert found[0] == pytest.approx(known, abs=1e-3)


# The tree of CIFAR-100


@pytest.fixture(scope="module")
def tree_similarity(shared_data):
    """One minus the height of the lowest common ancestor over that of the root."""
    path = shared_data / "hierarchy" / "cifar.parent-child.txt"
    if not path.is_file():
        pytest.skip("no tree of CIFAR-100 in shared/data")
    edges = [tuple(map(int, line.split())) for line in path.read_text().splitlines()]
    parent = {child: above for above, child in edges}
    children = {above: [c for a, c in edges if a == above] for above, _ in edges}

    def height(node):
        return 1 + max(map(height, children[node])) if node in children else 0

    def path_up(node):
        return [node, *(path_up(parent[node]) if node in parent else [])]

    def similarity(a, b):
        above = path_up(a)
        common = next(node for node in path_up(b) if node in above)
        return 1 - height(common) / height(above[-1])

    return np.array([[similarity(a, b) for b in range(100)] for a in range(100)])


def test_known_values_of_the_tree_of_cifar(tree_similarity, one_device):
    """100 images of a class, each a query against the others: what labels alone give.

    Known from random rankings: 0.192, with 0.21 at the last rank; classes perfect and the rest
    random 0.832, with 0.575; the ideal 0.996. In expectation a rank has the mean similarity of the
    items that are in random order.
    """
    classes, labels = np.arange(100), np.repeat(np.arange(100), 100)
    equal, ranks = codes_at_equal_distances(100), np.arange(1, 251)
    others = [np.delete(row[labels], 100 * c) for c, row in enumerate(tree_similarity)]
    for codes, first, known, last in (
        (np.ones((100, 1), np.int8), 0, 0.192, 0.21),
        (equal, 99, 0.832, 0.575),
    ):
        sides = codes, classes, codes[labels], labels
        some = leave_one_out(similarity_counts(*sides, tree_similarity, devices=one_device))
        assert some.total.sum(axis=1).tolist() == [9999] * 100
        curves = []
        for of_others in others:
            ideal = np.sort(of_others)[::-1]
            random = np.full(9999 - first, ideal[first:].mean())
            gained = np.cumsum(np.append(ideal[:first], random))[:250]
            curves.append(gained / np.cumsum(ideal)[:250])
        expected = [np.trapezoid(curve, ranks) / 250 for curve in curves]
        np.testing.assert_allclose(average_hierarchical_precision(some), expected, rtol=1e-12)
        assert mean_average_hierarchical_precision(some) == pytest.approx(known, abs=1e-3)
        at_last = hierarchical_precision(some, 250)
        np.testing.assert_allclose(at_last, [curve[-1] for curve in curves], rtol=1e-12)
        assert at_last.mean() == pytest.approx(last, abs=5e-3)
    for of_others in others[::20]:
        ideal = similarity_counts_from_scores(of_others, of_others)
        assert mean_average_hierarchical_precision(ideal) == pytest.approx(0.996)


# Counts


def problem(bits=7, queries=30, items=200, classes=6, seed=0):
    """Draws codes and class ids of both sides, some missing, and an asymmetric table."""
    rng = np.random.default_rng(seed)
    share = np.append(rng.dirichlet(np.full(classes - 1, 0.7)), 0)  # the last class has no items
    sides = []
    for n, law in ((queries, np.full(classes, 1 / classes)), (items, share)):
        labels = np.where(rng.random(n) < 0.1, -1, rng.choice(classes, n, p=law))
        sides += [rng.random((n, bits)) < 0.4, labels]
    table = rng.choice([0.0, 0.3, 1.0, 2.5], (classes, classes), p=[0.4, 0.3, 0.2, 0.1])
    table[1] = 0  # a class that nothing is similar to, itself neither
    table[0] = [0.3, 1.0, 2.5, 0.3, 0.0, 0.0]  # and one that is not most similar to itself
    return *map(frozen, sides), frozen(table)


def naive_counts(query_codes, query_labels, codes, labels, table):
    """For each query, items by distance, and by distance and similarity."""
    wider = np.pad(table, ((0, 1), (0, 1)))  # -1 is the last
    distance = (query_codes[:, None] != codes).sum(axis=2)
    for row, label in zip(distance, query_labels, strict=True):
        of_item = wider[label][labels]
        levels = sorted({s for s in table[label] if s > 0 and label >= 0}, reverse=True)
        yield (
            np.bincount(row, minlength=codes.shape[1] + 1),
            levels,
            [[np.sum((row == d) & (of_item == s)) for s in levels] for d in range(8)],
        )


def assert_counts(found, sides):
    every = list(naive_counts(*sides))
    for query, (total, levels, items) in enumerate(every):
        np.testing.assert_array_equal(found.total[query], total)
        np.testing.assert_array_equal(found.similarity[query, : len(levels)], levels)
        np.testing.assert_array_equal(found.items[query, :, : len(levels)].ravel(), np.ravel(items))
        assert not found.similarity[query, len(levels) :].any()
        assert not found.items[query, :, len(levels) :].any()


def assert_equal(some, other):
    for found, expected in zip(some, other, strict=True):
        np.testing.assert_array_equal(found, expected)
        assert found.dtype == expected.dtype


@pytest.mark.parametrize("items", [1, 31, 33, 200])
def test_counts_are_those_of_a_loop(items, one_device):
    sides = problem(items=items)
    assert_counts(similarity_counts(*sides, devices=one_device), sides)


def test_blocks_and_devices_do_not_matter():
    sides = problem(queries=70, items=500)
    found = similarity_counts(*sides)
    assert_counts(found, sides)
    for devices, block in ((1, 499), (3, 40), (3, 10**9), (8, 200)):
        some = similarity_counts(*sides, block=block, devices=jax.local_devices()[:devices])
        assert_equal(some, found)


def test_order_of_the_database_and_of_the_classes_does_not_matter(one_device):
    query_codes, query_labels, codes, labels, table = problem()
    options = {"devices": one_device, "block": 64}
    found = similarity_counts(query_codes, query_labels, codes, labels, table, **options)
    rng = np.random.default_rng(1)
    order = rng.permutation(len(codes))
    shuffled = codes[order], labels[order], table
    assert_equal(similarity_counts(query_codes, query_labels, *shuffled, **options), found)
    name = rng.permutation(len(table))  # of each class
    wider = np.append(name, -1)
    renamed = np.empty_like(table)
    renamed[np.ix_(name, name)] = table
    sides = query_codes, wider[query_labels], codes, wider[labels], renamed
    assert_equal(similarity_counts(*sides, **options), found)


def test_batched_queries_count_as_single_ones(monkeypatch):
    """Queries are batched on an accelerator."""
    sides = problem(queries=70)
    alone = similarity_counts(*sides)
    monkeypatch.setattr(_class_counts, "queries_at_once", lambda devices: 16)
    assert_equal(similarity_counts(*sides), alone)


def test_a_table_of_one_and_zero_counts_relevant_items():
    query_codes, query_labels, codes, labels, _ = problem()
    sides = query_codes, query_labels, codes, labels
    binary, some = distance_counts(*sides), similarity_counts(*sides, np.eye(6))
    np.testing.assert_array_equal(some.total, binary.total)
    np.testing.assert_array_equal(some.items[..., 0], binary.relevant)


def test_a_table_of_zeros_has_no_levels():
    sides = problem()
    some = leave_one_out(similarity_counts(*sides[:2], *sides[:2], np.zeros((6, 6), int)))
    assert some.items.shape == (30, 8, 0)
    assert hierarchical_precision(some, 3).tolist() == [0] * 30


def test_many_classes_and_one_item_of_each():
    """Words that hold one item, and as many levels as classes."""
    rng = np.random.default_rng(0)
    codes, labels, table = rng.random((90, 7)) < 0.5, rng.permutation(90), rng.random((90, 90))
    sides = codes, labels, codes, labels, table
    assert_counts(similarity_counts(*sides, block=40), sides)


# Items that search one another


def test_leave_one_out_counts_the_other_items(one_device):
    """Also if an item's own class is not the most similar, or not similar at all."""
    codes, labels, *_, table = problem(bits=3, queries=40)
    found = leave_one_out(similarity_counts(codes, labels, codes, labels, table))
    for i in range(len(codes)):
        others = np.delete(codes, i, 0), np.delete(labels, i, 0)
        alone = similarity_counts(codes[[i]], labels[[i]], *others, table, devices=one_device)
        levels = alone.items.shape[2]
        np.testing.assert_array_equal(found.total[[i]], alone.total)
        np.testing.assert_array_equal(found.items[[i], :, :levels], alone.items)
        assert not found.items[i, :, levels:].any()


def test_leave_one_out_needs_the_class_of_each_query():
    codes, labels = np.array([[1, 1], [1, -1], [1, 1]], np.int8), np.array([0, 1, 1])
    with pytest.raises(ValueError, match="leave_one_out"):  # nothing at distance 0
        leave_one_out(similarity_counts(codes, labels, codes[:1], labels[:1], np.eye(2)))
    table = np.array([[1.0, 0.5], [0.5, 1.0]])
    with pytest.raises(ValueError, match="leave_one_out"):  # another class only
        leave_one_out(similarity_counts(codes[:1], labels[:1], codes[1:], labels[1:], table))
    with pytest.raises(ValueError, match="own class"):
        leave_one_out(ranked([1.0, 0.5]))


# Real-valued scores


def test_scores_rank_as_distances_do():
    """With minus the distance as the score, metrics are equal for each query."""
    query_codes, query_labels, codes, labels, table = problem()
    some = similarity_counts(query_codes, query_labels, codes, labels, table)
    distance = (query_codes[:, None] != codes).sum(axis=2)
    similarity = np.pad(table, ((0, 1), (0, 1)))[query_labels][:, labels]
    for ties, k in product(TIES, [1, 20, 200]):
        of = [
            similarity_counts_from_scores(*row)
            for row in zip(-distance.astype(np.float32), similarity, strict=True)
        ]
        for metric in (hierarchical_precision, average_hierarchical_precision):
            found = [metric(one, k, ties=ties).item() for one in of]
            np.testing.assert_allclose(found, metric(some, k, ties=ties), atol=1e-12)


def test_scores_by_a_loop():
    rng = np.random.default_rng(0)
    for draws in range(5):
        scores, similarity = rng.normal(size=50), rng.choice([0, 0.5, 1.0, 3.0], 50)
        ranking = similarity[np.argsort(-scores)].tolist()
        some = similarity_counts_from_scores(scores, similarity)
        for form in FORMS:
            found = average_hierarchical_precision(some, 20, form=form)
            assert found.item() == pytest.approx(ahp_of(ranking, 20, form)), draws


@pytest.mark.parametrize("ties", TIES)
@pytest.mark.parametrize("form", FORMS)
def test_average_of_scores_is_that_of_their_counts(ties, form):
    rng = np.random.default_rng(1)
    for scores in (rng.normal(size=60), rng.integers(-3, 3, 60) / 2, np.zeros(60, np.float32)):
        for similarity in (rng.random(60), rng.choice([0, 0.5, 2.0], 60), np.zeros(60)):
            some = similarity_counts_from_scores(scores, similarity)
            for k in (1, 7, 59, None):
                found = average_hierarchical_precision_from_scores(
                    frozen(scores), frozen(similarity), k, form=form, ties=ties
                )
                expected = average_hierarchical_precision(some, k, form=form, ties=ties)
                assert found == pytest.approx(expected.item(), abs=1e-12)


def test_equal_scores_are_ties():
    some = similarity_counts_from_scores(np.array([1.0, 2.0, 2.0, 1.0]), np.array([1, 0, 2, 0]))
    assert some.total.tolist() == [[2, 2]]
    assert some.items.tolist() == [[[1, 0], [0, 1]]]
    assert some.similarity.tolist() == [[2, 1]]
    values = [hierarchical_precision(some, 1, ties=t).item() for t in TIES]
    assert values == [0, 0.5, 1]


# Inputs and mistakes


@pytest.mark.parametrize("ties", TIES)
def test_inputs_are_not_modified_and_queries_do_not_depend_on_each_other(ties):
    some = random_counts(6, 5, 40, seed=3)
    found = average_hierarchical_precision(some, 20, ties=ties)
    assert found.dtype == np.float64 and found.shape == (6,)
    for row, value in enumerate(found):
        alone = SimilarityCounts(*(part[[row]] for part in some[:3]))
        assert average_hierarchical_precision(alone, 20, ties=ties).item() == value


def test_mistakes_in_ranks_and_names(unchecked):
    some = random_counts(2, 3, 17, seed=0)
    for metric in (
        hierarchical_precision,
        average_hierarchical_precision,
        mean_average_hierarchical_precision,
    ):
        with pytest.raises(ValueError, match="k=18 .*17"):
            metric(some, 18)
        with pytest.raises(ValueError, match="k .*0"):
            metric(some, 0)
        with pytest.raises(TypeError, match="k .*integer"):
            metric(some, 2.5)
        with pytest.raises(ValueError, match="ties .*'random'"):
            metric(some, 2, ties="random")
    with pytest.raises(ValueError, match="k=250"):
        mean_average_hierarchical_precision(some)
    with pytest.raises(ValueError, match="form .*'trapezoid'.*'mean'.*'area'"):
        average_hierarchical_precision(some, 2, form="area")


@pytest.mark.parametrize(
    ("table", "error", "message"),
    [
        (np.ones((6, 5)), ValueError, r"\[classes, classes\].*\(6, 5\)"),
        (np.ones(6), ValueError, r"\[classes, classes\].*\(6,\)"),
        (-np.eye(6), ValueError, "0 or above, got -1.0"),
        (np.full((6, 6), np.nan), ValueError, "finite.*nan"),
        (np.full((6, 6), "a"), TypeError, "similarity must be numbers"),
        (np.eye(4), ValueError, "class 5, .*4"),
    ],
)
def test_mistakes_in_the_table(unchecked, table, error, message):
    with pytest.raises(error, match=message):
        similarity_counts(*problem()[:4], table)


def test_mistakes_in_labels_blocks_and_scores(unchecked):
    query_codes, query_labels, codes, labels, table = problem()
    with pytest.raises(ValueError, match="database labels"):
        similarity_counts(query_codes, query_labels, codes, np.eye(6)[labels], table)
    with pytest.raises(ValueError, match="block .*0"):
        similarity_counts(query_codes, query_labels, codes, labels, table, block=0)
    for scores, similarity, message in (
        ([1.0, np.nan], [1.0, 0.0], "scores must be finite"),
        ([], [], "scores .*at least one"),
        ([1.0, 2.0], [1.0, -1.0], "0 or above, got -1"),
        ([1.0, 2.0], [1.0], r"\(2,\) and \(1,\)"),
    ):
        for read in (similarity_counts_from_scores, average_hierarchical_precision_from_scores):
            with pytest.raises(ValueError, match=message):
                read(np.array(scores), np.array(similarity))
    one = np.ones(3), np.ones(3)
    for options, message in (
        ({"k": 4}, "k=4"),
        ({"form": "sum"}, "form"),
        ({"ties": "any"}, "ties"),
    ):
        with pytest.raises(ValueError, match=message):
            average_hierarchical_precision_from_scores(*one, **{"k": 2} | options)

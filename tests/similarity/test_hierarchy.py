"""Trees of classes: by hand, against walks up to the root, from files, and refusals."""

import json
import random
import tracemalloc

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxhash.similarity import (
    Hierarchy,
    class_levels,
    class_levels_from_items,
    level_similarity,
    merge_heights,
    read_hierarchy,
    tree_similarity,
    wu_palmer_similarity,
)

#: thing ─ animal ─ cat, dog, bird ─ owl; thing ─ car
PAIRS = [("animal", "cat"), ("thing", "animal"), ("bird", "owl"), ("animal", "dog")]
PAIRS += [("thing", "car"), ("animal", "bird")]
CLASSES = ["cat", "dog", "owl", "car"]

property_test = hypothesis.settings(max_examples=60, deadline=None, derandomize=True, database=None)


def table(*rows):
    return np.array(rows, np.float32)


def offdiagonal(similarity):
    return similarity[~np.eye(len(similarity), dtype=bool)]


# By hand


def test_tree_by_hand():
    tree = Hierarchy.from_pairs(PAIRS, CLASSES)
    assert tree.nodes[0] == "thing" and sorted(tree.nodes) == sorted(
        ["thing", "animal", "car", "cat", "dog", "bird", "owl"]
    )
    ids = dict(zip(tree.nodes, range(7), strict=True))
    parents = {name: tree.parents[i] for name, i in ids.items()}
    assert parents["thing"] == -1 and parents["owl"] == ids["bird"]
    assert parents["car"] == ids["thing"]
    assert (tree.parents[1:] < np.arange(1, 7)).all()
    assert tree.depths.tolist() == [
        {"thing": 1, "animal": 2, "car": 2, "owl": 4}.get(n, 3) for n in ids
    ]
    assert tree.heights.tolist() == [{"thing": 3, "animal": 2, "bird": 1}.get(n, 0) for n in ids]
    assert [tree.nodes[node] for node in tree.classes] == CLASSES


def test_tree_similarity_by_hand():
    expected = table([1, 1 / 3, 1 / 3, 0], [1 / 3, 1, 1 / 3, 0], [1 / 3, 1 / 3, 1, 0], [0, 0, 0, 1])
    similarity = tree_similarity(Hierarchy.from_pairs(PAIRS, CLASSES))
    assert similarity.dtype == np.float32
    np.testing.assert_allclose(similarity, expected, rtol=1e-6)


def test_wu_palmer_by_hand():
    expected = table(
        [1, 4 / 6, 4 / 7, 2 / 5],
        [4 / 6, 1, 4 / 7, 2 / 5],
        [4 / 7, 4 / 7, 1, 2 / 6],
        [0.4, 0.4, 1 / 3, 1],
    )
    similarity = wu_palmer_similarity(Hierarchy.from_pairs(PAIRS, CLASSES))
    assert similarity.dtype == np.float32
    np.testing.assert_allclose(similarity, expected, rtol=1e-6)


def test_classes_above_classes():
    """The ancestor of two classes may be one of them; its similarity to itself is 1."""
    tree = Hierarchy.from_pairs(PAIRS, ["owl", "bird", "thing"])
    np.testing.assert_allclose(
        tree_similarity(tree), table([1, 2 / 3, 0], [2 / 3, 1, 0], [0, 0, 1]), rtol=1e-6
    )
    np.testing.assert_allclose(
        wu_palmer_similarity(tree),
        table([1, 6 / 7, 2 / 5], [6 / 7, 1, 2 / 4], [2 / 5, 2 / 4, 1]),
        rtol=1e-6,
    )
    named = [[tree.nodes[node] for node in level] for level in class_levels(tree, [0, 1, 2, 3])]
    assert named == [
        ["owl", "bird", "thing"],
        ["bird", "bird", "thing"],
        ["animal", "animal", "thing"],
        ["thing", "thing", "thing"],
    ]


def test_levels_by_hand():
    tree = Hierarchy.from_pairs(PAIRS, CLASSES)
    levels = class_levels(tree, [2, 0, 1, 3])
    assert levels.dtype == np.int32
    assert [[tree.nodes[node] for node in level] for level in levels] == [
        ["animal", "animal", "animal", "car"],
        ["cat", "dog", "owl", "car"],
        ["cat", "dog", "bird", "car"],
        ["thing", "thing", "thing", "thing"],
    ]


def test_order_and_repetition_of_pairs_do_not_matter():
    tree = Hierarchy.from_pairs(PAIRS, CLASSES)
    for seed in range(5):
        pairs = random.Random(seed).sample(PAIRS * 2, 2 * len(PAIRS))
        other = Hierarchy.from_pairs(iter(pairs), CLASSES)
        np.testing.assert_array_equal(tree_similarity(other), tree_similarity(tree))
        np.testing.assert_array_equal(wu_palmer_similarity(other), wu_palmer_similarity(tree))


def test_a_deep_chain():
    """The tree is deeper than the recursion limit of Python."""
    pairs = [(str(i), str(i + 1)) for i in range(1500)]
    tree = Hierarchy.from_pairs(pairs, ["1500", "750", "0"])
    assert tree.heights[0] == 1500
    np.testing.assert_allclose(tree_similarity(tree), table([1, 0.5, 0], [0.5, 1, 0], [0, 0, 1]))


# Against walks up to the root


@st.composite
def trees(draw):
    """Draws pairs in any order, the classes, and the parent of each name."""
    parents = [draw(st.integers(0, node)) for node in range(draw(st.integers(1, 20)))]
    names = draw(st.permutations([f"n{i}" for i in range(len(parents) + 1)]))
    parent_of = {names[i + 1]: names[parent] for i, parent in enumerate(parents)}
    pairs = draw(st.permutations([(parent, child) for child, parent in parent_of.items()]))
    classes = draw(st.lists(st.sampled_from(names), min_size=1, max_size=12, unique=True))
    return pairs, classes, parent_of


def path_to_root(name, parent_of):
    way = [name]
    while way[-1] in parent_of:
        way.append(parent_of[way[-1]])
    return way


def height_of(name, parent_of):
    """Returns the largest distance from the node to a node below it."""
    ways = [path_to_root(node, parent_of) for node in {*parent_of, *parent_of.values()}]
    return max(way.index(name) for way in ways if name in way)


@property_test
@hypothesis.given(trees())
def test_tables_are_those_of_walks(drawn):
    pairs, classes, parent_of = drawn
    tree = Hierarchy.from_pairs(pairs, classes)
    shape = (len(classes), len(classes))
    by_height, by_depth = np.zeros(shape), np.zeros(shape)
    total = height_of(tree.nodes[0], parent_of)
    for i, j in np.ndindex(shape):
        one, other = path_to_root(classes[i], parent_of), path_to_root(classes[j], parent_of)
        common = next(name for name in one if name in other)
        by_height[i, j] = 1.0 if i == j else 1 - height_of(common, parent_of) / total
        by_depth[i, j] = 2 * len(path_to_root(common, parent_of)) / (len(one) + len(other))
    np.testing.assert_allclose(tree_similarity(tree), by_height, rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(wu_palmer_similarity(tree), by_depth, rtol=1e-6)
    for similarity in (tree_similarity(tree), wu_palmer_similarity(tree)):
        assert (np.diag(similarity) == 1).all()


@property_test
@hypothesis.given(trees())
def test_levels_are_those_of_walks_and_average_to_the_similarity(drawn):
    pairs, classes, parent_of = drawn
    tree = Hierarchy.from_pairs(pairs, classes)
    total = height_of(tree.nodes[0], parent_of)
    levels = class_levels(tree, range(total))
    for height in range(total):
        for name, node in zip(classes, levels[height], strict=True):
            way = path_to_root(name, parent_of)
            low = [above for above in way if height_of(above, parent_of) <= height]
            assert tree.nodes[node] == ([name, *low][-1])
    np.testing.assert_allclose(level_similarity(levels, levels), tree_similarity(tree), atol=1e-6)


# What is refused


@pytest.mark.parametrize(
    ("pairs", "classes", "message"),
    [
        ([], ["a"], "no pair"),
        (
            [("a", "b"), ("c", "b")],
            ["b"],
            "'b' has two parents, 'a' and 'c'",
        ),
        (
            [("r", "a"), ("r", "c"), ("a", "b"), ("c", "b")],
            ["b"],
            "'b' has two parents, 'a' and 'c'",
        ),
        (
            [("a", "b"), ("c", "d")],
            ["b"],
            "'a' and 'c' have no parent",
        ),
        ([("a", "a")], ["a"], "'a' is its own ancestor"),
        ([("r", "x"), ("a", "a")], ["x"], "'a' is its own ancestor"),
        ([("b", "a"), ("b", "b")], ["a"], "'b' is its own ancestor"),
        (
            [("r", "x"), ("c", "a"), ("d", "c"), ("c", "d")],
            ["x"],
            "'[cd]' is its own ancestor",
        ),
        ([("r", "a")], ["a", "b"], "class 'b' is not a node"),
        ([("r", "a"), ("r", "b")], ["a", "b", "a"], "class 'a' occurs 2 times"),
    ],
)
def test_pairs_that_are_no_tree_are_refused(pairs, classes, message):
    with pytest.raises(ValueError, match=message):
        Hierarchy.from_pairs(pairs, classes)


# Files


@pytest.mark.parametrize(
    "content",
    [b"r a\na b\nr c", b"r a\na b\nr c\n\n  \n", b"\xef\xbb\xbfr\ta\r\n a  b \r\nr c\r\n"],
    ids=["plain", "blank lines at the end", "byte order mark, tabs, carriage returns"],
)
@pytest.mark.parametrize("kind", [str, lambda path: path], ids=["str", "Path"])
def test_lines_are_read(tmp_path, content, kind):
    path = tmp_path / "tree.txt"
    path.write_bytes(content)
    tree = read_hierarchy(kind(path), ["b", "c"])
    assert tree.nodes == ("r", "a", "c", "b") and tree.classes.tolist() == [3, 2]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty"),
        (b"\n \n", "empty"),
        (b"r a\nr\n", "line 2: .*'r'"),
        (b"r a\n\nr b\n", "line 2: .*''"),
        (b"r a\r\nr b\r\nr b c\r\n", "line 3: .*'r b c'"),
        (b"r a\nr \xff\n", "0xff"),
        (b"r a\nb a\n", "'a' has two parents, 'r' and 'b'"),
        (b"r b\n", "class 'a' is not a node"),
    ],
)
def test_lines_that_are_no_tree_are_refused_with_the_file(tmp_path, content, message):
    path = tmp_path / "tree.txt"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f"^{path}: .*{message}"):
        read_hierarchy(path, ["a"])


def test_a_missing_file_raises_an_os_error(tmp_path):
    with pytest.raises(FileNotFoundError, match="tree.txt"):
        read_hierarchy(tmp_path / "tree.txt", ["a"])


def graph(nodes, links):
    return {
        "nodes": nodes,
        "links": [{"source": source, "target": target} for source, target in links],
    }


@pytest.mark.parametrize("name", ["tree.json", "Tree.JSON"])
def test_graphs_are_read_by_label(tmp_path, name):
    """A node without a label of its own is named by its id."""
    nodes = [{"id": 0, "label": "thing"}, {"id": 1}, {"id": 2, "label": "crane"}]
    nodes += [{"id": 3, "label": "crane"}, {"id": 4, "label": "cat"}]
    path = tmp_path / name
    path.write_text(json.dumps(graph(nodes, [(0, 1), (1, 2), (0, 3), (1, 4), (0, 5)])))
    tree = read_hierarchy(path, ["2", "3", "cat", "5"])
    assert tree.nodes == ("thing", "1", "3", "5", "2", "cat")
    np.testing.assert_allclose(tree_similarity(tree)[0], [1, 0, 0.5, 0])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "empty"),
        ("{", "not JSON"),
        ("[]", "not a node-link graph"),
        ("3", "not a node-link graph"),
        ('{"nodes": [], "edges": []}', "'nodes' .* 'target'"),
        ('{"nodes": ["a"], "links": []}', "not a node-link graph"),
        ('{"nodes": [{"id": "a"}], "links": [{"source": "a"}]}', "not a node-link graph"),
        (json.dumps(graph([{"id": "a"}], [])), "no pair"),
        (
            json.dumps(graph([{"id": "b", "label": "x"}], [("b", "b")])),
            "'x' is its own ancestor",
        ),
        (
            json.dumps(graph([{"id": "b", "label": "x"}], [("b", "c")])),
            "class 'a' is not a node",
        ),
        ('{"nodes":' + "[" * 100_000, "nested too deeply"),
        ('{"nodes": [[1]], "links": []}', "not a node-link graph"),
        (json.dumps(graph([{"id": 0, "label": ["a"]}], [])), "ids and labels .*\\['a'\\]"),
        (json.dumps(graph([{"id": {}}], [])), "node-link graph|ids and labels"),
        (json.dumps(graph([{"id": 0}], [([0], 1)])), "ids and labels"),
        (json.dumps(graph([{"id": 0}], [(0.5, True)])), "ids and labels"),
        (json.dumps(graph([{"id": 0}, {"id": 0}], [(0, 1)])), "node 0 is there twice"),
        (json.dumps(graph([{"id": None}], [])), "node None .*no id"),
        (json.dumps(graph([{"id": 0}, {"id": "0"}], [])), "nodes 0 and '0' are both '0'"),
        (json.dumps(graph([{"id": 1}, {"id": 2, "label": "1"}], [])), "nodes 1 and 2 are both '1'"),
        (json.dumps(graph([{"id": 1, "label": "9"}], [(1, 9)])), "link .*end 9"),
        (json.dumps(graph([{"id": 1}], [(1, None)])), "link .*end None"),
        ('{"nodes": [{"id": ' + "1" * 5000 + '}], "links": []}', "not JSON"),
        (
            json.dumps(graph([{"id": "x" * 10**6}], [("x" * 10**6, "x" * 10**6)])),
            "'x{79}\\.\\.\\.",
        ),
    ],
)
def test_graphs_that_are_no_tree_are_refused_with_the_file(tmp_path, content, message):
    path = tmp_path / "tree.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=f"^{path}: .*{message}"):
        read_hierarchy(path, ["a"])


# Published trees


def test_cifar100(shared_data):
    path = shared_data / "hierarchy" / "cifar.parent-child.txt"
    tree = read_hierarchy(path, [str(i) for i in range(100)])
    assert len(tree.nodes) == 163 and tree.heights[0] == 8
    similarity = tree_similarity(tree)
    heights, pairs = np.unique(8 - 8 * offdiagonal(similarity), return_counts=True)
    assert heights.tolist() == [1, 2, 3, 4, 5, 6, 7, 8]
    np.testing.assert_allclose(
        100 * pairs / pairs.sum(), [1.39, 2.32, 4.26, 7.98, 14.46, 4.55, 11.11, 53.92], atol=0.006
    )
    assert offdiagonal(similarity).mean() == pytest.approx(0.1757, abs=5e-5)
    assert np.linalg.eigvalsh(similarity.astype(float)).min() == pytest.approx(0.125)
    groups = [len(np.unique(level)) for level in class_levels(tree, range(9))]
    assert groups[0] == 100 and groups[8] == 1 and sorted(groups, reverse=True) == groups


def test_ilsvrc(shared_data):
    folder = shared_data / "hierarchy"
    classes = (folder / "ilsvrc.wnids.txt").read_text().split()
    tree = read_hierarchy(folder / "ilsvrc.parent-child.mintree.txt", classes)
    assert len(tree.nodes) == 1785 and tree.heights[0] == 18
    assert (tree.heights[tree.classes] == 0).all() and (tree.heights == 0).sum() == 1000
    similarity = tree_similarity(tree)
    assert similarity.shape == (1000, 1000)
    np.testing.assert_array_equal(similarity, similarity.T)
    levels = class_levels(tree, range(18))
    np.testing.assert_allclose(level_similarity(levels, levels), similarity, atol=1e-6)


def test_cifar10(shared_data):
    classes = ["airplane", "car", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
    tree = read_hierarchy(shared_data / "hierarchy" / "cifar10.wordnet.json", classes)
    assert len(tree.nodes) == 18 and tree.nodes[0] == "whole" and tree.heights[0] == 4
    vehicles = [classes.index(name) for name in ("airplane", "ship", "car", "truck")]
    animals = [classes.index(name) for name in ("bird", "frog", "cat", "dog", "deer", "horse")]
    similarity = tree_similarity(tree)
    assert (similarity[np.ix_(vehicles, animals)] == 0).all()
    np.testing.assert_array_equal(
        similarity[np.ix_(vehicles, vehicles)],
        table([1, 0.75, 0.5, 0.5], [0.75, 1, 0.5, 0.5], [0.5, 0.5, 1, 0.75], [0.5, 0.5, 0.75, 1]),
    )
    np.testing.assert_array_equal(
        similarity[np.ix_(animals, animals)],
        table(
            [1, 0.25, 0.25, 0.25, 0.25, 0.25],
            [0.25, 1, 0.25, 0.25, 0.25, 0.25],
            [0.25, 0.25, 1, 0.75, 0.5, 0.5],
            [0.25, 0.25, 0.75, 1, 0.5, 0.5],
            [0.25, 0.25, 0.5, 0.5, 1, 0.75],
            [0.25, 0.25, 0.5, 0.5, 0.75, 1],
        ),
    )


def test_cifar100_coarse_labels(shared_data):
    with np.load(shared_data / "features" / "cifar100_mobilenetv2.npz") as file:
        levels = class_levels_from_items(np.stack([file["labels"], file["coarse_labels"]]))
    assert levels[0].tolist() == list(range(100))
    assert np.unique(levels[1], return_counts=True)[1].tolist() == [5] * 20
    values, pairs = np.unique(level_similarity(levels, levels), return_counts=True)
    assert values.tolist() == [0, 0.5, 1] and pairs.tolist() == [9500, 400, 100]


# Levels of labels


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int64])
def test_levels_of_classes_from_those_of_items(dtype):
    labels = np.array([[3, 0, 1, 3, 0], [7, 7, 5, 7, 7], [2, 2, 0, 2, 2]], dtype)
    levels = class_levels_from_items(labels)
    assert levels.dtype == np.int32
    assert levels.tolist() == [[0, 1, -1, 3], [7, 5, -1, 7], [2, 0, -1, 2]]


def test_items_without_a_class_are_ignored():
    assert class_levels_from_items(np.array([[0, -1, 1], [4, 5, -1]])).tolist() == [[0, 1], [4, -1]]
    assert class_levels_from_items(np.array([[-1], [5]])).tolist() == [[], []]


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([[0, 1, 0], [2, 2, 3]], "class 0 .*level 1, 2 and 3"),
        ([[0, -2], [0, 0]], "labels .*-1 for none, got -2"),
        ([0, 1], r"\[levels, items\].*\(2,\)"),
    ],
)
def test_inconsistent_levels_are_refused(unchecked, labels, message):
    with pytest.raises(ValueError, match=message):
        class_levels_from_items(np.array(labels))


@pytest.mark.parametrize("array", [np.array, jnp.array], ids=["numpy", "jax"])
def test_level_similarity_is_the_share_of_levels(array):
    levels, others = np.random.default_rng(0).integers(-1, 3, (2, 4, 9))
    expected = np.zeros((9, 9))
    for i, j, level in np.ndindex(9, 9, 4):
        expected[i, j] += (levels[level, i] == others[level, j] != -1) / 4
    similarity = level_similarity(array(levels), array(others))
    assert isinstance(similarity, type(array(0.0))) and similarity.dtype == np.float32
    np.testing.assert_array_equal(similarity, expected)
    traced = jax.jit(level_similarity)(jnp.array(levels), jnp.array(others))
    np.testing.assert_array_equal(traced, expected)


@pytest.mark.parametrize("count", range(1, 13))
def test_agreement_on_all_levels_is_one(count):
    levels = jnp.zeros((count, 2), int)
    assert (jax.jit(level_similarity)(levels, levels) == 1).all()
    assert (level_similarity(np.asarray(levels), np.asarray(levels)) == 1).all()


@pytest.mark.parametrize("one, other", [((2, 3), (1, 3)), ((3,), (3,)), ((0, 3), (0, 3))])
def test_levels_that_do_not_fit_are_refused(unchecked, one, other):
    with pytest.raises(ValueError, match="levels and others"):
        level_similarity(np.zeros(one, int), np.zeros(other, int))


def test_deep_chain_takes_little_memory(tmp_path):
    """A table of the ancestors of all nodes at all depths would take 13 GiB."""
    path = tmp_path / "chain.txt"
    path.write_text("".join(f"{i} {i + 1}\n" for i in range(60_000)))
    tracemalloc.start()
    tree = read_hierarchy(path, ["59000", "0", "30000"])
    found = tree_similarity(tree)
    levels = class_levels(tree, merge_heights(tree).tolist())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**27
    np.testing.assert_allclose(found, [[1, 0, 0.5], [0, 1, 0], [0.5, 0, 1]])
    assert levels.tolist() == [[30000, 0, 30000]]


@pytest.mark.parametrize("seed", range(3))
def test_merge_heights_are_those_with_fewer_groups(seed):
    rng = np.random.default_rng(seed)
    pairs = [(str(rng.integers(max(0, i - 4), i)), str(i)) for i in range(1, 40)]
    tree = Hierarchy.from_pairs(pairs, [str(i) for i in rng.permutation(40)[:12]])
    heights = range(int(tree.heights[0]))
    groups = [len(np.unique(level)) for level in class_levels(tree, heights)]
    fewer = [h for h in heights[1:] if groups[h] < groups[h - 1]]
    assert merge_heights(tree).tolist() == fewer

"""A tree of classes: how alike two classes are by their common ancestor, and the tree's levels."""

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Array, Float32, Int, Int32, Integer

from jaxhash.ops.arguments import UNLABELLED
from jaxhash.similarity._labels import share_a_label


class Hierarchy(NamedTuple):
    """A tree of named nodes, some of which are the classes.

    Nodes are numbered from the root, which is 0, a parent before its children.
    """

    nodes: tuple[str, ...]
    """The names."""
    parents: Int32[np.ndarray, " nodes"]
    """The parent of each node; -1 of the root."""
    depths: Int32[np.ndarray, " nodes"]
    """How many nodes there are from the root to the node, both counted: 1 of the root."""
    heights: Int32[np.ndarray, " nodes"]
    """How many edges the longest way down has: 0 of a leaf, be it a class or not."""
    classes: Int32[np.ndarray, " classes"]
    """The node of each class."""

    @classmethod
    def from_pairs(cls, pairs: Iterable[tuple[str, str]], classes: Sequence[str]) -> "Hierarchy":
        """The tree of pairs of a parent and its child.

        Args:
            pairs: the names of parent and child, in any order; a pair may be repeated.
            classes: the names of the nodes that are the classes, in the order of the class ids.
                They need not be leaves, and leaves need not be classes.

        Raises:
            ValueError: in one line that names the node: if the pairs are none or no tree (a node
                has two parents, or is its own ancestor, or two have none), or a class is not among
                the nodes or occurs twice.

        Example:
            >>> pairs = [("animal", "cat"), ("thing", "animal"), ("animal", "dog"), ("thing", "car")]
            >>> tree = Hierarchy.from_pairs(pairs, classes=["cat", "car"])
            >>> tree.nodes, tree.heights.tolist(), tree.classes.tolist()
            (('thing', 'animal', 'car', 'cat', 'dog'), [2, 1, 0, 0, 0], [3, 2])
        """
        parent_of: dict[str, str] = {}
        for parent, child in pairs:
            known = parent_of.setdefault(child, parent)
            if known != parent:
                raise ValueError(
                    f"node {_shown(child)} has two parents, {_shown(known)} and {_shown(parent)}: a tree is needed"
                )
        nodes = _from_the_root(parent_of)
        number = {name: i for i, name in enumerate(nodes)}
        parents = [-1, *(number[parent_of[name]] for name in nodes[1:])]
        depths, heights = [1] * len(nodes), [0] * len(nodes)
        for node in range(1, len(nodes)):
            depths[node] = depths[parents[node]] + 1
        for node in range(len(nodes) - 1, 0, -1):
            heights[parents[node]] = max(heights[parents[node]], heights[node] + 1)
        _check_classes(classes, number)
        found = [number[name] for name in classes]
        return cls(
            nodes, *(np.array(column, np.int32) for column in (parents, depths, heights, found))
        )


def read_hierarchy(path: str | Path, classes: Sequence[str]) -> Hierarchy:
    r"""Read a tree of classes.

    Args:
        path: a text file in UTF-8 whose lines are a parent and its child (empty lines at its end do
            not count), or node-link JSON, by the suffix .json: ``nodes`` with ``id`` and maybe
            ``label``, and ``links`` from ``source``, the parent, to ``target``. A node of the JSON
            is called by its label, or by its id where it has none or another has the same.
        classes: the names of the nodes that are the classes, in the order of the class ids.

    Raises:
        OSError: if the file cannot be read.
        ValueError: in one line that names the file: if it is empty, a line is not two words, the
            JSON is no graph, and as `Hierarchy.from_pairs` says.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file = Path(folder) / "parent-child.txt"
        ...     _ = file.write_text("100 0\n100 1")
        ...     read_hierarchy(file, classes=["0", "1"]).nodes
        ('100', '0', '1')
    """
    path = Path(path)
    content = path.read_bytes()
    try:
        text = content.decode("utf-8-sig").rstrip()
        if not text:
            raise ValueError("the file is empty")
        pairs = _pairs_of_graph(text) if path.suffix.lower() == ".json" else _pairs_of_lines(text)
        return Hierarchy.from_pairs(pairs, classes)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def tree_similarity(hierarchy: Hierarchy) -> Float32[np.ndarray, "classes classes"]:
    r"""Similarity of classes by the height of their lowest common ancestor, in [0, 1].

    .. math:: s_{ij} = 1 - h(\operatorname{lca}(i, j)) / h(\text{root}),

    where the height h of a node is the longest way from it down to a leaf. A class is similar to
    itself by 1, also where it is not a leaf. One minus it is the semantic distance.

    Returns:
        A symmetric table, indexed by class ids on both sides. An id of -1 (no label) must not
        index it: that is its last row.

    Example:
        >>> pairs = [("thing", "animal"), ("animal", "cat"), ("animal", "dog"), ("thing", "car")]
        >>> tree_similarity(Hierarchy.from_pairs(pairs, ["cat", "dog", "car"])).tolist()
        [[1.0, 0.5, 0.0], [0.5, 1.0, 0.0], [0.0, 0.0, 1.0]]

    Reference:
        Barz, Denzler, "Hierarchy-Based Image Embeddings for Semantic Image Retrieval", WACV 2019;
        the formula is read off their released code. That semantic-similarity hashing (Arponen,
        Bishop, 2019 and 2020) measures classes by it is recollection, not confirmed.
    """
    heights = hierarchy.heights / hierarchy.heights[0]
    table = 1.0 - heights[_lowest_common_ancestors(hierarchy)]
    np.fill_diagonal(table, 1.0)
    return table.astype(np.float32)


def wu_palmer(hierarchy: Hierarchy) -> Float32[np.ndarray, "classes classes"]:
    r"""Similarity of classes by the depth of their lowest common ancestor, in (0, 1].

    .. math:: s_{ij} = 2 \, d(\operatorname{lca}(i, j)) / (d(i) + d(j)),

    where the depth d of a node counts the nodes from the root to it, so that of the root is 1.
    Unlike by `tree_similarity`, two classes with nothing but the root in common are similar above 0.

    Returns:
        A symmetric table, indexed by class ids on both sides. An id of -1 (no label) must not
        index it: that is its last row.

    Example:
        >>> pairs = [("thing", "animal"), ("animal", "cat"), ("animal", "dog"), ("thing", "car")]
        >>> wu_palmer(Hierarchy.from_pairs(pairs, ["cat", "dog", "car"])).round(3).tolist()[0]
        [1.0, 0.6669999957084656, 0.4000000059604645]

    Reference:
        Wu, Palmer, "Verb semantics and lexical selection", ACL 1994, as the released code of Barz
        and Denzler has it. In a tree each node has one depth, so the way through the common
        ancestor, along which they measure, is the only one.
    """
    own = hierarchy.depths[hierarchy.classes]
    common = hierarchy.depths[_lowest_common_ancestors(hierarchy)]
    return (2 * common / (own[:, None] + own[None, :])).astype(np.float32)


def class_levels(
    hierarchy: Hierarchy, heights: Sequence[int]
) -> Int32[np.ndarray, "levels classes"]:
    """The groups that classes fall into when the tree is cut at heights.

    At a height a class belongs to its highest ancestor that is no higher: two classes are in one
    group where their lowest common ancestor is at most as high. At 0 each class is a group, at the
    height of the root all are one, and the groups of a height lie within those of a larger one. Over
    all heights below the root's, `level_similarity` of the levels is `tree_similarity`.

    Args:
        hierarchy: the tree.
        heights: from 0 to the height of the root, in the order of the levels.

    Returns:
        The node of each class at each level, whose name is ``hierarchy.nodes[node]``. Groups are
        numbered from 0 by ``np.unique(level, return_inverse=True)``.

    Example:
        >>> pairs = [("thing", "animal"), ("animal", "cat"), ("animal", "dog"), ("thing", "car")]
        >>> tree = Hierarchy.from_pairs(pairs, ["cat", "dog", "car"])
        >>> [[tree.nodes[node] for node in level] for level in class_levels(tree, [0, 1])]
        [['cat', 'dog', 'car'], ['animal', 'animal', 'car']]

    Reference:
        A choice of this library; in a tree whose leaves are all equally deep the levels are the
        depths.
    """
    above = _ancestors(hierarchy)
    return np.array([_cut(hierarchy, height, above) for height in heights], np.int32)


def joining_heights(hierarchy: Hierarchy) -> Int32[np.ndarray, " heights"]:
    """The heights at which classes are joined, from the lowest, without that of the root.

    Between two of them the groups of `class_levels` stay as they are.

    Example:
        >>> pairs = [("thing", "animal"), ("animal", "cat"), ("animal", "dog"), ("thing", "car")]
        >>> joining_heights(Hierarchy.from_pairs(pairs, ["cat", "dog", "car"])).tolist()
        [1]
    """
    common = _lowest_common_ancestors(hierarchy)
    heights = np.unique(hierarchy.heights[common[~np.eye(len(common), dtype=bool)]])
    return heights[heights < hierarchy.heights[0]]


def class_levels_of_items(
    labels: Integer[np.ndarray, "levels items"],
) -> Int32[np.ndarray, "levels classes"]:
    """The group of each class at each level, from items that are labelled at all levels.

    Args:
        labels: class ids of the items, and at each further level the id of the group; for
            CIFAR-100 the fine and the coarse labels, ``np.stack([fine, coarse])``. Items without a
            class (-1) do not count.

    Returns:
        The levels of the classes 0 to the largest id; -1 at all levels of a class without an item.

    Raises:
        ValueError: if items of one class are in two groups of a level, or a class id is below -1.

    Example:
        >>> fine, coarse = np.array([2, 0, 1, 0]), np.array([1, 0, 1, 0])
        >>> class_levels_of_items(np.stack([fine, coarse])).tolist()
        [[0, 1, 2], [0, 1, 1]]
    """
    if labels.ndim != 2 or not len(labels):
        raise ValueError(f"labels must be ids [levels, items], got shape {labels.shape}")
    labels = labels.astype(np.int32)
    least = labels[0].min(initial=UNLABELLED)
    if least < UNLABELLED:
        raise ValueError(f"labels must have class ids from 0, or -1 for none, got {least}")
    labels = labels[:, labels[0] != UNLABELLED]
    table = np.full((len(labels), labels[0].max(initial=UNLABELLED) + 1), UNLABELLED, np.int32)
    table[:, labels[0]] = labels
    torn = np.argwhere(table[:, labels[0]] != labels)
    if len(torn):
        level, item = torn[0]
        of_class = labels[0, item]
        raise ValueError(
            f"class {of_class} is in two groups of level {level}, {labels[level, item]} and "
            f"{table[level, of_class]}"
        )
    return table


def level_similarity(
    levels: Int[Array, "levels n"] | Int[np.ndarray, "levels n"],
    others: Int[Array, "levels m"] | Int[np.ndarray, "levels m"],
) -> Float32[Array, "n m"] | Float32[np.ndarray, "n m"]:
    """Similarity of pairs by the share of levels on which their labels agree, in [0, 1].

    Args:
        levels: ids of the rows at each level, as fine and coarse labels; -1 means "no label", which
            agrees with nothing. Of classes it is what `class_levels` gives, and the result a table
            indexed by class ids; of items, their labels at the levels.
        others: the same of the columns, with the same levels in the same order.

    Returns:
        Of the same kind of array (JAX or NumPy) as the levels.

    Raises:
        ValueError: if there are no levels, or not as many on both sides.

    Example:
        >>> fine_and_coarse = np.array([[0, 1, 2], [0, 0, 1]])
        >>> level_similarity(fine_and_coarse, fine_and_coarse).tolist()
        [[1.0, 0.5, 0.0], [0.5, 1.0, 0.0], [0.0, 0.0, 1.0]]

    Reference:
        Read off the released code of HPDH (arXiv 1901.11259), for the two levels of CIFAR-100.
    """
    if levels.ndim != 2 or others.ndim != 2 or not len(levels) or len(levels) != len(others):
        raise ValueError(
            "levels and others must be ids [levels, items] with the same levels, got shapes "
            f"{levels.shape} and {others.shape}"
        )
    agree = sum(share_a_label(*level) for level in zip(levels, others, strict=True))
    return (agree / len(levels)).astype(np.float32)


def _cut(
    hierarchy: Hierarchy, height: int, above: Int32[np.ndarray, "jumps nodes"]
) -> Int32[np.ndarray, " classes"]:
    """The highest ancestor of each class that is no higher; a class that is higher stays."""
    node = hierarchy.classes
    for jump in above[::-1]:  # heights grow on the way up, so the way is found by halving
        higher = jump[node]
        node = np.where(hierarchy.heights[higher] <= height, higher, node)
    return node


def _ancestors(hierarchy: Hierarchy) -> Int32[np.ndarray, "jumps nodes"]:
    """The ancestor of each node that is 1, 2, 4, ... edges above it; above the root is the root."""
    above = [np.maximum(hierarchy.parents, 0)]
    while 2 ** len(above) < hierarchy.depths.max():
        above.append(above[-1][above[-1]])
    return np.stack(above)


def _lowest_common_ancestors(hierarchy: Hierarchy) -> Int32[np.ndarray, "classes classes"]:
    """The node that is furthest down among the ancestors of both; classes count as their own."""
    above, depths, classes = _ancestors(hierarchy), hierarchy.depths, hierarchy.classes
    found = np.empty((len(classes), len(classes)), np.int32)
    for row, first in enumerate(classes):
        ours, theirs = np.broadcast_to(first, classes.shape), classes
        for power, jump in reversed(list(enumerate(above))):  # up to the same depth
            apart = depths[ours] - depths[theirs]
            ours = np.where(apart >= 2**power, jump[ours], ours)
            theirs = np.where(-apart >= 2**power, jump[theirs], theirs)
        for jump in above[::-1]:  # up to just below where the ways meet
            climbs = jump[ours] != jump[theirs]
            ours, theirs = (
                np.where(climbs, jump[ours], ours),
                np.where(climbs, jump[theirs], theirs),
            )
        found[row] = np.where(ours == theirs, ours, above[0][ours])
    return found


def _from_the_root(parent_of: dict[str, str]) -> tuple[str, ...]:
    """All nodes, a parent before its children, if it is a tree."""
    if not parent_of:
        raise ValueError("there is no pair of a parent and its child")
    children: dict[str, list[str]] = {}
    for child, parent in parent_of.items():
        children.setdefault(parent, []).append(child)
    nodes = [name for name in children if name not in parent_of]
    if len(nodes) > 1:
        raise ValueError(
            f"nodes {_shown(nodes[0])} and {_shown(nodes[1])} have no parent: a tree has one root"
        )
    for name in nodes:  # which grows meanwhile
        nodes.extend(children.get(name, ()))
    beyond = parent_of.keys() - nodes
    if beyond:
        name = min(beyond)
        for _ in beyond:  # up from a node that may only hang on the cycle
            name = parent_of[name]
        raise ValueError(f"node {_shown(name)} is its own ancestor: a tree is needed")
    return tuple(nodes)


def _check_classes(classes: Sequence[str], number: dict[str, int]) -> None:
    """Raise unless each class is a node, and no other class is the same."""
    for name, times in Counter(classes).items():
        if name not in number:
            raise ValueError(f"class {_shown(name)} is not a node of the hierarchy")
        if times > 1:
            raise ValueError(f"class {_shown(name)} occurs {times} times")


def _pairs_of_lines(text: str) -> list[tuple[str, str]]:
    """The pairs that stand in lines of two words."""
    pairs = []
    for number, line in enumerate(text.split("\n"), start=1):
        words = line.split()
        if len(words) != 2:
            raise ValueError(
                f"line {number}: expected a parent and its child, got {line.strip()[:80]!r}"
            )
        pairs.append((words[0], words[1]))
    return pairs


def _pairs_of_graph(text: str) -> list[tuple[str, str]]:
    """The pairs that stand in node-link JSON."""
    try:
        graph = json.loads(text)
    except RecursionError:
        raise ValueError("not a node-link graph: it is nested too deeply") from None
    except ValueError as error:
        raise ValueError(f"not JSON: {error}") from None
    try:
        nodes = [(node["id"], node.get("label")) for node in graph["nodes"]]
        links = [(link["source"], link["target"]) for link in graph["links"]]
    except (KeyError, TypeError, AttributeError):
        raise ValueError(
            "not a node-link graph: it needs 'nodes' with 'id' and 'links' with 'source' and 'target'"
        ) from None
    for value in [part for pair in (*nodes, *links) for part in pair]:
        if type(value) not in (str, int) and value is not None:
            raise ValueError(f"ids and labels must be words or whole numbers, got {_shown(value)}")
    labels: dict[str | int, str | int | None] = {}
    for node, label in nodes:
        if node is None or node in labels:
            raise ValueError(f"node {_shown(node)} is there twice, or has no id")
        labels[node] = label
    times = Counter(label for label in labels.values() if label is not None)
    names: dict[str, str | int] = {}
    for node, label in labels.items():
        name = str(node if label is None or times[label] > 1 else label)
        if names.setdefault(name, node) != node:
            raise ValueError(
                f"nodes {_shown(names[name])} and {_shown(node)} are both {_shown(name)}"
            )
    name_of = {node: name for name, node in names.items()}
    for node in [end for link in links for end in link]:
        if node in name_of:
            continue
        if node is None or names.setdefault(str(node), node) != node:
            raise ValueError(f"a link has the end {_shown(node)}, which is another node's name")
        name_of[node] = str(node)  # a node that is not listed has no label
    return [(name_of[source], name_of[target]) for source, target in links]


def _shown(name: object) -> str:
    """A name in quotes, or what stands in its place; the start of a long one."""
    shown = repr(name)
    return shown if len(shown) <= 80 else f"{shown[:80]}..."

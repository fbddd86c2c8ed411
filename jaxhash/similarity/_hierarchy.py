"""Similarity of classes in a tree, by their lowest common ancestor or by the levels of the tree."""

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Array, Float32, Int, Int32, Integer

from jaxhash.ops.arguments import UNLABELLED
from jaxhash.similarity._labels import shares_label


class Hierarchy(NamedTuple):
    """A tree of named nodes, some of which are the classes.

    Nodes are numbered from the root, 0, with each parent before its children.
    """

    nodes: tuple[str, ...]
    """The names."""
    parents: Int32[np.ndarray, " nodes"]
    """The parent of each node; -1 for the root."""
    depths: Int32[np.ndarray, " nodes"]
    """The number of nodes from the root to each node, both counted; 1 for the root."""
    heights: Int32[np.ndarray, " nodes"]
    """The number of edges on the longest path down to a leaf; 0 for a leaf."""
    classes: Int32[np.ndarray, " classes"]
    """The node of each class."""

    @classmethod
    def from_pairs(cls, pairs: Iterable[tuple[str, str]], classes: Sequence[str]) -> "Hierarchy":
        """Builds the tree from pairs of a parent and its child.

        Args:
            pairs: names of parent and child, in any order; a pair may be repeated.
            classes: names of the nodes that are classes, in the order of the class ids. They need
                not be leaves, and leaves need not be classes.

        Raises:
            ValueError: if there are no pairs, they are not a tree (a node has two parents or is its
                own ancestor, or there are two roots), or a class is not a node or occurs twice. The
                message names the node.

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
                    f"node {_quote(child)} has two parents, {_quote(known)} and {_quote(parent)}: "
                    "a tree is needed"
                )
        nodes = _sort_from_root(parent_of)
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
    r"""Reads a tree of classes from a file.

    Args:
        path: UTF-8 text file with a parent and its child on each line (empty lines at the end are
            ignored), or, with the suffix .json, node-link JSON: ``nodes`` with ``id`` and an
            optional ``label``, and ``links`` from ``source``, the parent, to ``target``. The name of
            a JSON node is its label, or its id if it has no label or the label is not unique.
        classes: names of the nodes that are classes, in the order of the class ids.

    Raises:
        OSError: if the file cannot be read.
        ValueError: if the file is empty, a line is not two words, the JSON is not such a graph, or
            `Hierarchy.from_pairs` refuses the pairs. The message names the file.

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
    r"""Computes the similarity of classes by the height of their lowest common ancestor, in [0, 1].

    .. math:: s_{ij} = 1 - h(\operatorname{lca}(i, j)) / h(\text{root}),

    where the height h of a node is the length of the longest path from it down to a leaf. The
    similarity of a class with itself is 1, also if it is not a leaf. The semantic distance is one
    minus the similarity.

    Returns:
        A symmetric table, indexed by class ids on both sides. Do not index it with -1 (no label),
        which is its last row.

    Example:
        >>> pairs = [("thing", "animal"), ("animal", "cat"), ("animal", "dog"), ("thing", "car")]
        >>> tree_similarity(Hierarchy.from_pairs(pairs, ["cat", "dog", "car"])).tolist()
        [[1.0, 0.5, 0.0], [0.5, 1.0, 0.0], [0.0, 0.0, 1.0]]

    Reference:
        Barz, Denzler, "Hierarchy-Based Image Embeddings for Semantic Image Retrieval", WACV 2019;
        the formula is that of their released code. That semantic-similarity hashing (Arponen,
        Bishop, 2019 and 2020) compares classes by it is recollection, not confirmed.
    """
    heights = hierarchy.heights / hierarchy.heights[0]
    table = 1.0 - heights[_lowest_common_ancestors(hierarchy)]
    np.fill_diagonal(table, 1.0)
    return table.astype(np.float32)


def wu_palmer_similarity(hierarchy: Hierarchy) -> Float32[np.ndarray, "classes classes"]:
    r"""Computes the Wu-Palmer similarity of classes, in (0, 1].

    .. math:: s_{ij} = 2 \, d(\operatorname{lca}(i, j)) / (d(i) + d(j)),

    where the depth d of a node counts the nodes from the root to it, so the root has depth 1. Unlike
    with `tree_similarity`, two classes that have only the root in common have a similarity above 0.

    Returns:
        A symmetric table, indexed by class ids on both sides. Do not index it with -1 (no label),
        which is its last row.

    Example:
        >>> pairs = [("thing", "animal"), ("animal", "cat"), ("animal", "dog"), ("thing", "car")]
        >>> wu_palmer_similarity(Hierarchy.from_pairs(pairs, ["cat", "dog", "car"])).round(3).tolist()[0]
        [1.0, 0.6669999957084656, 0.4000000059604645]

    Reference:
        Wu, Palmer, "Verb semantics and lexical selection", ACL 1994, as in the released code of
        Barz and Denzler. They measure along the path through the common ancestor, which in a tree is
        the only path.
    """
    own = hierarchy.depths[hierarchy.classes]
    common = hierarchy.depths[_lowest_common_ancestors(hierarchy)]
    return (2 * common / (own[:, None] + own[None, :])).astype(np.float32)


def class_levels(
    hierarchy: Hierarchy, heights: Sequence[int]
) -> Int32[np.ndarray, "levels classes"]:
    """Groups classes by cutting the tree at heights.

    At a height each class belongs to its highest ancestor that is no higher, so two classes are in
    one group if their lowest common ancestor is at most that high. At height 0 each class is a group
    of its own, at the height of the root all classes are one group, and groups at a height are
    subsets of the groups at a larger one. Over all heights below the root's, `level_similarity` of
    the levels equals `tree_similarity`.

    Args:
        hierarchy: the tree.
        heights: heights from 0 to that of the root, in the order of the levels.

    Returns:
        The node of each class at each level; its name is ``hierarchy.nodes[node]``. To number groups
        from 0, use ``np.unique(level, return_inverse=True)``.

    Example:
        >>> pairs = [("thing", "animal"), ("animal", "cat"), ("animal", "dog"), ("thing", "car")]
        >>> tree = Hierarchy.from_pairs(pairs, ["cat", "dog", "car"])
        >>> [[tree.nodes[node] for node in level] for level in class_levels(tree, [0, 1])]
        [['cat', 'dog', 'car'], ['animal', 'animal', 'car']]

    Reference:
        A choice of this library; in a tree whose leaves are equally deep the levels are the depths.
    """
    ancestors = _ancestors(hierarchy)
    levels = [_highest_ancestors(hierarchy, height, ancestors) for height in heights]
    return np.array(levels, np.int32)


def merge_heights(hierarchy: Hierarchy) -> Int32[np.ndarray, " heights"]:
    """Returns the heights at which groups of classes merge, ascending, without that of the root.

    Between two of these heights the groups of `class_levels` do not change.

    Example:
        >>> pairs = [("thing", "animal"), ("animal", "cat"), ("animal", "dog"), ("thing", "car")]
        >>> merge_heights(Hierarchy.from_pairs(pairs, ["cat", "dog", "car"])).tolist()
        [1]
    """
    common = _lowest_common_ancestors(hierarchy)
    heights = np.unique(hierarchy.heights[common[~np.eye(len(common), dtype=bool)]])
    return heights[heights < hierarchy.heights[0]]


def class_levels_from_items(
    labels: Integer[np.ndarray, "levels items"],
) -> Int32[np.ndarray, "levels classes"]:
    """Finds the group of each class at each level from items that are labelled at all levels.

    Args:
        labels: class ids of the items, and ids of their groups at each further level; for CIFAR-100
            the fine and the coarse labels, ``np.stack([fine, coarse])``. Items without a class (-1)
            are ignored.

    Returns:
        The levels of the classes 0 to the largest id; -1 at all levels for a class without items.

    Raises:
        ValueError: if items of one class are in two groups of a level, or a class id is below -1.

    Example:
        >>> fine, coarse = np.array([2, 0, 1, 0]), np.array([1, 0, 1, 0])
        >>> class_levels_from_items(np.stack([fine, coarse])).tolist()
        [[0, 1, 2], [0, 1, 1]]
    """
    if labels.ndim != 2 or not len(labels):
        raise ValueError(f"labels must be ids [levels, items], got shape {labels.shape}")
    labels = labels.astype(np.int32)
    smallest = labels[0].min(initial=UNLABELLED)
    if smallest < UNLABELLED:
        raise ValueError(f"labels must have class ids from 0, or -1 for none, got {smallest}")
    labels = labels[:, labels[0] != UNLABELLED]
    table = np.full((len(labels), labels[0].max(initial=UNLABELLED) + 1), UNLABELLED, np.int32)
    table[:, labels[0]] = labels
    conflicts = np.argwhere(table[:, labels[0]] != labels)
    if len(conflicts):
        level, item = conflicts[0]
        class_id = labels[0, item]
        raise ValueError(
            f"class {class_id} is in two groups of level {level}, {labels[level, item]} and "
            f"{table[level, class_id]}"
        )
    return table


def level_similarity(
    levels: Int[Array, "levels n"] | Int[np.ndarray, "levels n"],
    others: Int[Array, "levels m"] | Int[np.ndarray, "levels m"],
) -> Float32[Array, "n m"] | Float32[np.ndarray, "n m"]:
    """Computes the share of levels on which the labels of pairs agree, in [0, 1].

    Args:
        levels: ids of the rows at each level, such as fine and coarse labels; -1 means "no label"
            and agrees with nothing. For classes these are the result of `class_levels`, and the
            similarity is a table indexed by class ids; for items they are the labels of the items.
        others: ids of the columns at the same levels in the same order.

    Returns:
        The similarity, in the same kind of array (JAX or NumPy) as the levels.

    Raises:
        ValueError: if there are no levels, or their numbers differ.

    Example:
        >>> fine_and_coarse = np.array([[0, 1, 2], [0, 0, 1]])
        >>> level_similarity(fine_and_coarse, fine_and_coarse).tolist()
        [[1.0, 0.5, 0.0], [0.5, 1.0, 0.0], [0.0, 0.0, 1.0]]

    Reference:
        The released code of HPDH (arXiv 1901.11259), for the two levels of CIFAR-100.
    """
    if levels.ndim != 2 or others.ndim != 2 or not len(levels) or len(levels) != len(others):
        raise ValueError(
            "levels and others must be ids [levels, items] with the same levels, got shapes "
            f"{levels.shape} and {others.shape}"
        )
    agree = sum(shares_label(*level) for level in zip(levels, others, strict=True))
    return (agree / len(levels)).astype(np.float32)


def _highest_ancestors(
    hierarchy: Hierarchy, height: int, ancestors: Int32[np.ndarray, "jumps nodes"]
) -> Int32[np.ndarray, " classes"]:
    """Returns the highest ancestor of each class up to a height; a higher class is its own."""
    node = hierarchy.classes
    for jump in ancestors[::-1]:  # heights grow towards the root, so bisection finds it
        higher = jump[node]
        node = np.where(hierarchy.heights[higher] <= height, higher, node)
    return node


def _ancestors(hierarchy: Hierarchy) -> Int32[np.ndarray, "jumps nodes"]:
    """Returns the ancestors 1, 2, 4, ... edges above each node; the root is its own ancestor."""
    ancestors = [np.maximum(hierarchy.parents, 0)]
    while 2 ** len(ancestors) < hierarchy.depths.max():
        ancestors.append(ancestors[-1][ancestors[-1]])
    return np.stack(ancestors)


def _lowest_common_ancestors(hierarchy: Hierarchy) -> Int32[np.ndarray, "classes classes"]:
    """Returns the deepest common ancestor of each two classes; a class is an ancestor of itself."""
    ancestors, depths, classes = _ancestors(hierarchy), hierarchy.depths, hierarchy.classes
    table = np.empty((len(classes), len(classes)), np.int32)
    for row, first in enumerate(classes):
        a, b = np.broadcast_to(first, classes.shape), classes
        for power, jump in reversed(list(enumerate(ancestors))):  # up to the same depth
            difference = depths[a] - depths[b]
            a = np.where(difference >= 2**power, jump[a], a)
            b = np.where(-difference >= 2**power, jump[b], b)
        for jump in ancestors[::-1]:  # up to just below the common ancestor
            climbs = jump[a] != jump[b]
            a, b = np.where(climbs, jump[a], a), np.where(climbs, jump[b], b)
        table[row] = np.where(a == b, a, ancestors[0][a])
    return table


def _sort_from_root(parent_of: dict[str, str]) -> tuple[str, ...]:
    """Returns all nodes with each parent before its children; raises if they are not a tree."""
    if not parent_of:
        raise ValueError("there is no pair of a parent and its child")
    children: dict[str, list[str]] = {}
    for child, parent in parent_of.items():
        children.setdefault(parent, []).append(child)
    nodes = [name for name in children if name not in parent_of]
    if len(nodes) > 1:
        raise ValueError(
            f"nodes {_quote(nodes[0])} and {_quote(nodes[1])} have no parent: a tree has one root"
        )
    for name in nodes:  # the list grows during the loop
        nodes.extend(children.get(name, ()))
    unreached = parent_of.keys() - nodes
    if unreached:
        name = min(unreached)
        for _ in unreached:  # go up, since a node below a cycle need not be on it
            name = parent_of[name]
        raise ValueError(f"node {_quote(name)} is its own ancestor: a tree is needed")
    return tuple(nodes)


def _check_classes(classes: Sequence[str], number: dict[str, int]) -> None:
    """Raises unless each class is a node and occurs once."""
    for name, times in Counter(classes).items():
        if name not in number:
            raise ValueError(f"class {_quote(name)} is not a node of the hierarchy")
        if times > 1:
            raise ValueError(f"class {_quote(name)} occurs {times} times")


def _pairs_of_lines(text: str) -> list[tuple[str, str]]:
    """Parses lines of two words, a parent and its child."""
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
    """Parses node-link JSON to pairs of a parent and its child."""
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
            raise ValueError(f"ids and labels must be words or whole numbers, got {_quote(value)}")
    labels: dict[str | int, str | int | None] = {}
    for node, label in nodes:
        if node is None or node in labels:
            raise ValueError(f"node {_quote(node)} is there twice, or has no id")
        labels[node] = label
    times = Counter(label for label in labels.values() if label is not None)
    names: dict[str, str | int] = {}
    for node, label in labels.items():
        name = str(node if label is None or times[label] > 1 else label)
        if names.setdefault(name, node) != node:
            raise ValueError(
                f"nodes {_quote(names[name])} and {_quote(node)} are both {_quote(name)}"
            )
    name_of = {node: name for name, node in names.items()}
    for node in [end for link in links for end in link]:
        if node in name_of:
            continue
        if node is None or names.setdefault(str(node), node) != node:
            raise ValueError(f"a link has the end {_quote(node)}, which is another node's name")
        name_of[node] = str(node)  # an unlisted node has no label
    return [(name_of[source], name_of[target]) for source, target in links]


def _quote(name: object) -> str:
    """Returns the repr of a name, shortened to 80 characters."""
    shown = repr(name)
    return shown if len(shown) <= 80 else f"{shown[:80]}..."

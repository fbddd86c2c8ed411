"""Checks a split before a model is trained on it: sizes, overlaps, labels and order."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int
from rich.console import Console
from rich.table import Table

from jaxhash.data.checks.duplicates import equal_input_leaks, find_equal_inputs, name_examples
from jaxhash.data.checks.near_duplicates import (
    NearDuplicates,
    find_near_duplicates,
    near_duplicate_warnings,
)
from jaxhash.data.checks.relevance import check_relevance
from jaxhash.data.load import load_source
from jaxhash.data.protocols import SplitOptions, describe_source, draw_labeled, split_source
from jaxhash.data.readers.lists import read_split_lists
from jaxhash.data.rows import Rows, StoredRows, row_blocks, row_digest
from jaxhash.data.splits import Split
from jaxhash.data.tree_form import measure_rows
from jaxhash.similarity import has_label
from jaxhash.utils.console import print_line, print_table
from jaxhash.utils.errors import printable
from jaxhash.utils.hardware import free_memory

#: Largest number of classes that are listed one by one; more are summarized.
MAX_CLASS_ROWS = 20

#: Memory in bytes that the search for near duplicates takes for an item, about.
NEAR_BYTES_PER_ITEM = 240

#: Number of names or sentences of a list that are printed.
MAX_LISTED = 8


class LabeledSplit(NamedTuple):
    """A split, and what is known of its items.

    Attributes:
        split: the split.
        labels: class ids or multi-hot rows of all items.
        class_names: one name per class.
        inputs: inputs of all items.
        conflicts: sentences on contradictory labels.
        left_out: unreadable files, with the reason.
        notes: sentences on choices made in reading and splitting the data.
        name_of: maps an item to its name.
    """

    split: Split
    labels: Int[np.ndarray, " items *classes"] | None = None
    class_names: Sequence[str] = ()
    inputs: Rows | None = None
    conflicts: Sequence[str] = ()
    left_out: Sequence[str] = ()
    notes: Sequence[str] = ()
    name_of: Callable[[int | np.integer], str] = "item {:,}".format


def read_lists(files: Path | Mapping[str, Path]) -> LabeledSplit:
    """Reads the split of three list files, with its labels.

    Args:
        files: the list of each part, by the names in `jaxhash.data.readers.lists.LIST_FILES`; or their
            folder.

    Raises:
        UserError: if a list is missing or cannot be read.
    """
    listed = read_split_lists(files)
    labels = listed.labels
    classes = labels.max() + 1 if labels.ndim == 1 else labels.shape[1]
    names = tuple(map(str, range(classes)))
    name_of = listed.paths.__getitem__
    return LabeledSplit(listed.split, labels, names, conflicts=listed.conflicts, name_of=name_of)


def read_dataset(
    dataset: str, options: SplitOptions, image_size: int | None = None
) -> LabeledSplit:
    """Reads a data set and splits it.

    Args:
        dataset: its name, as in `jaxhash.data.load.load_source`.
        options: how to split it, and its folder.
        image_size: height and width in pixels to which the images of a folder are decoded.

    Raises:
        UserError: if it cannot be read, or not be split in this way.
    """
    source = load_source(dataset, options.data_dir, image_size)
    split = draw_labeled(options, split_source(options, source), source)
    return LabeledSplit(
        split,
        source.labels,
        source.class_names,
        source.inputs,
        left_out=source.left_out,
        name_of=source.name_of,
        notes=describe_source(options, source),
    )


def examine_split(
    labeled: LabeledSplit, console: Console | None = None, *, memory_bytes: int | None = None
) -> dict[str, Any]:
    """Examines a split, whose item numbers and labels are in memory; inputs are read a block at a time.

    Args:
        labeled: the split, and what is known of its items.
        console: console for the progress; None prints none.
        memory_bytes: memory that the comparisons of inputs may take; by default half of what is free for
            equal ones, and all of it for near duplicates. Where it does not hold a code of each item, near
            duplicates are not looked for, and ``notes`` say so.

    Returns:
        JSON values: ``split`` and ``sha256``; by part, ``items`` and ``repeated``; ``overlaps`` and ``leaks``
        as in `Split`, with leaks by equal inputs; ``leaking_items``, the names of the first ones;
        ``conflicts``, ``notes`` and ``warnings``. With labels, ``unlabelled`` by part, ``classes`` with the
        number of items of each class by part, and ``order`` of the database. With inputs,
        ``same_content``, the counts of `jaxhash.data.checks.duplicates.EqualInputs`, ``near_duplicates``, the
        fields of `jaxhash.data.checks.near_duplicates.NearDuplicates`, and ``left_out``.

    Example:
        >>> split = Split("small", np.array([0]), np.array([1]), np.array([1, 2]))
        >>> examine_split(LabeledSplit(split))["leaks"]
        ['query and database share 1 item']
    """
    split = labeled.split
    found = {
        "split": split.name,
        "sha256": split.sha256,
        "items": {name: len(items) for name, items in split.parts.items()},
        "repeated": split.repeated(),
        "overlaps": split.overlaps(),
        "leaks": split.leaks,
        "leaking_items": split.named_leaks(labeled.name_of),
        "conflicts": list(labeled.conflicts),
        "notes": list(labeled.notes),
        "warnings": [],
    }
    if labeled.labels is not None and split.relevant is None:  # lists are no classes
        found |= _examine_labels(split, labeled.labels, labeled.class_names)
        warnings, notes = check_relevance(
            labeled.labels[split.query], labeled.labels[split.database]
        )
        found["warnings"] += warnings
        found["notes"] += notes
    if labeled.inputs is not None:
        equal = find_equal_inputs(
            *(split, labeled.inputs, console),
            memory_bytes=memory_bytes,
            read_all=isinstance(labeled.inputs, StoredRows),
        )
        found["same_content"] = equal.counts
        found["leaking_items"] += name_examples(equal, labeled.name_of)
        leaks, warnings = equal_input_leaks(equal.counts, found["items"])
        found["leaks"] = [*found["leaks"], *leaks]
        form = measure_rows(labeled.inputs, split.train)
        others = {name: items for name, items in split.parts.items() if name != "train"}
        found["warnings"] += [*form.warnings(labeled.inputs, others), *warnings]
        if left_out := _near_duplicates_left_out(labeled, memory_bytes):
            near = NearDuplicates(left_out, {}, [])
            found["notes"].append(left_out)
        else:
            near = find_near_duplicates(split, labeled.inputs, console)
        found["near_duplicates"] = near._asdict()
        found["warnings"] += near_duplicate_warnings(near, found["items"], labeled.name_of)
        found["left_out"] = list(labeled.left_out)
    return found


def print_findings(found: Mapping[str, Any], console: Console) -> None:
    """Prints the findings of `examine_split`; the last line reports whether the split leaks."""
    print_table(console, _parts_table(found))
    if "classes" in found:
        print_table(console, _classes_table(found))
    for sentence in _sentences(found):
        print_line(console, sentence)


def _near_duplicates_left_out(labeled: LabeledSplit, memory_bytes: int | None) -> str | None:
    """Returns a sentence if the memory does not hold what a search for near duplicates takes."""
    items = min(sum(map(len, labeled.split.parts.values())), len(labeled.inputs))
    free = free_memory() if memory_bytes is None else memory_bytes
    if (needed := items * NEAR_BYTES_PER_ITEM) <= free:
        return None
    return (
        f"near duplicates are not looked for: those of {items:,} items take about "
        f"{needed / 2**30:,.1f} GiB of memory, and there are {free / 2**30:,.1f}; check a part of the items"
    )


def _examine_labels(
    split: Split, labels: Int[np.ndarray, " items *classes"], class_names: Sequence[str]
) -> dict[str, Any]:
    """Examines the labels of each part."""
    counts, unlabeled, of_training = {}, {}, split.training_labels(labels)
    for name, items in split.parts.items():
        of_part = of_training if name == "train" else labels
        counts[name], unlabeled[name] = np.zeros(len(class_names), np.int64), 0
        for rows in _label_blocks(items, labels):
            block = of_part[items[rows]]
            is_held = has_label(block)
            unlabeled[name] += int((~is_held).sum())
            if labels.ndim == 1:
                counts[name] += np.bincount(block[is_held], minlength=len(class_names))
            else:
                counts[name] += (block != 0).sum(axis=0)
    return {
        "unlabelled": unlabeled,
        "classes": [
            {"class": class_name, **{name: int(counts[name][row]) for name in counts}}
            for row, class_name in enumerate(class_names)
        ],
        "order": _examine_order(labels, split.database),
    }


def _label_blocks(
    items: Int[np.ndarray, " items"], labels: Int[np.ndarray, " all *classes"]
) -> Iterator[slice]:
    """Yields ranges of items whose labels are read at a time."""
    return row_blocks(len(items), 8 + labels[:1].nbytes)


def _examine_order(
    labels: Int[np.ndarray, " all *classes"], items: Int[np.ndarray, " items"]
) -> dict[str, Any]:
    """Examines whether items are sorted by their labels: the share of neighbors with equal labels.

    An order counts as sorted if labels change less than half as often as in a random order.
    """
    sizes, equal, last = Counter(), 0, labels[:0]
    for rows in _label_blocks(items, labels):
        block = labels[items[rows]]
        distinct, counts = np.unique(block, axis=0, return_counts=True)
        keys = distinct.tolist() if labels.ndim == 1 else map(row_digest, distinct)
        for key, count in zip(keys, counts.tolist(), strict=True):
            sizes[key] += count
        follow = np.concatenate([last, block])
        is_equal = (follow[1:] == follow[:-1]).all(axis=tuple(range(1, labels.ndim)))
        equal, last = equal + int(is_equal.sum()), block[-1:]
    neighbors = max(len(items) - 1, 1)
    pairs = max(len(items) * (len(items) - 1), 1)
    alike, chance = equal / neighbors, sum(n * (n - 1) for n in sizes.values()) / pairs
    return {
        "neighbours_alike": alike,
        "by_chance": chance,
        "class_by_class": len(sizes) > 1 and 1 - alike < (1 - chance) / 2,
    }


def _parts_table(found: Mapping[str, Any]) -> Table:
    """Returns a table of sizes, repeated and unlabeled items, and shared items of the parts."""
    table = Table(title=f"{found['split']}, split {found['sha256'][:12]}", box=None)
    table.add_column("part")
    parts, unlabeled = list(found["items"]), found.get("unlabelled")
    columns = ["items", "repeated"] + ["no label"] * (unlabeled is not None)
    for title in columns + [f"in {name}" for name in parts]:
        table.add_column(title, justify="right")
    for part in parts:
        cells = [found["items"][part], found["repeated"][part]]
        cells += [] if unlabeled is None else [unlabeled[part]]
        shared = [
            "-" if part == other else f"{found['overlaps'][part][other]:,}" for other in parts
        ]
        table.add_row(part, *(f"{cell:,}" for cell in cells), *shared)
    return table


def _classes_table(found: Mapping[str, Any]) -> Table:
    """Returns a table of the items of each class; for many classes, of the fewest, median and most."""
    parts, classes = list(found["items"]), found["classes"]
    table = Table(title=f"items of each of {len(classes):,} classes", box=None)
    table.add_column("class")
    for part in parts:
        table.add_column(part, justify="right")
    if len(classes) <= MAX_CLASS_ROWS:
        for row in classes:
            table.add_row(printable(row["class"]), *(f"{row[part]:,}" for part in parts))
        return table
    ordered = {part: sorted(classes, key=lambda row, part=part: row[part]) for part in parts}
    for title, index in (("fewest", 0), ("median", len(classes) // 2), ("most", -1)):
        rows = ((part, ordered[part][index]) for part in parts)
        table.add_row(title, *(f"{row[part]:,} ({row['class']})" for part, row in rows))
    return table


def _sentences(found: Mapping[str, Any]) -> Iterator[str]:
    """Yields the findings as sentences, the least important first; the last one is about leaks."""
    yield from found["notes"]
    if found.get("left_out"):
        named = _first(found["left_out"], "; ")
        yield f"warning: unreadable images, left out: {len(found['left_out']):,} ({named})"
    for part in found["items"]:
        empty = [printable(row["class"]) for row in found.get("classes", ()) if not row[part]]
        if empty:
            yield f"classes without any {part} item: {_first(empty, ', ')}"
    order = found.get("order")
    if order and order["class_by_class"]:
        yield (
            f"the database is stored class by class: {order['neighbours_alike']:.1%} of "
            f"neighbors have the same labels, {order['by_chance']:.1%} would by chance; an mAP whose "
            "ties are broken by this order is biased (jaxhash's is their mean over all orders)"
        )
    if found["conflicts"]:
        yield (
            "warning: lines with other labels than their path has before: "
            f"{len(found['conflicts']):,} ({_first(found['conflicts'], '; ')})"
        )
    yield from (f"by name: {sentence}" for sentence in found["leaking_items"])
    yield from (f"warning: {sentence}" for sentence in found["warnings"])
    duplicates = found.get("same_content", {}).get("train", {}).get("database", 0)
    if duplicates:
        yield f"training items with an equal input in database: {duplicates:,}"
    near = found.get("near_duplicates", {"counts": {}})
    within = near["counts"].get("database", {}).get("database")
    if within:
        yield f"database items with a near duplicate in database: {within:,}"
    if any(count for row in near["counts"].values() for count in row.values()):
        yield near["measure"]
    yield f"leak: {'; '.join(found['leaks'])}" if found["leaks"] else "no leak"


def _first(entries: Sequence[str], separator: str) -> str:
    """Joins the first few entries."""
    more = len(entries) - MAX_LISTED
    return separator.join(entries[:MAX_LISTED]) + (f" and {more:,} more" if more > 0 else "")

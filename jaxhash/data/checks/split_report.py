"""Checks a split before a model is trained on it: sizes, overlaps, labels and order."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int
from rich.console import Console
from rich.table import Table

from jaxhash.data.checks.duplicates import equal_inputs, name_equal, tell_equal
from jaxhash.data.checks.relevance import tell_relevance
from jaxhash.data.input_form import measure_inputs
from jaxhash.data.load import load_source
from jaxhash.data.protocols import SplitOptions, describe_parts, split_source
from jaxhash.data.readers.lists import read_split_lists
from jaxhash.data.rows import Rows
from jaxhash.data.splits import Split
from jaxhash.similarity import has_label
from jaxhash.utils.console import print_line
from jaxhash.utils.errors import printable

#: More classes than these are summed up as the fewest, the median and the most items of a class.
MOST_ROWS = 20

#: Of a long list of names or sentences, so many are printed.
MOST_NAMED = 8


class Checked(NamedTuple):
    """A split with what is known of its items.

    Attributes:
        split: the split.
        labels: class ids or multi-hot rows of all items.
        class_names: a name for each class.
        inputs: the items themselves.
        conflicts: what is wrong with the labels, a sentence each.
        left_out: files that cannot be read and are no items, with the reason.
        notes: what was made of the data where there was a choice, a sentence each.
        name_of: from an item to what it is called.
    """

    split: Split
    labels: Int[np.ndarray, " items *classes"] | None = None
    class_names: Sequence[str] = ()
    inputs: Rows | None = None
    conflicts: Sequence[str] = ()
    left_out: Sequence[str] = ()
    notes: Sequence[str] = ()
    name_of: Callable[[int | np.integer], str] = "item {:,}".format


def checked_lists(files: Path | Mapping[str, Path]) -> Checked:
    """Returns the split that three list files make, with its labels.

    Args:
        files: the list of each part, by the names in `FILE_NAMES`; or the folder that they are in.

    Raises:
        UserError: if a list is missing or cannot be read.
    """
    listed = read_split_lists(files)
    labels = listed.labels
    classes = labels.max() + 1 if labels.ndim == 1 else labels.shape[1]
    names = tuple(map(str, range(classes)))
    name_of = listed.paths.__getitem__
    return Checked(listed.split, labels, names, conflicts=listed.conflicts, name_of=name_of)


def checked_dataset(dataset: str, options: SplitOptions, image_size: int | None = None) -> Checked:
    """Returns the split that the options make of a data set, with its labels and inputs.

    Args:
        dataset: as `jaxhash.data.load.load_source` names it.
        options: how it is split, and the folder that it is in.
        image_size: height and width that the images of a folder are decoded to.

    Raises:
        UserError: if it cannot be read or split so.
    """
    source = load_source(dataset, options.data_dir, image_size)
    split = split_source(options, source)
    return Checked(
        split,
        source.labels,
        source.class_names,
        source.inputs,
        left_out=source.left_out,
        name_of=source.name_of,
        notes=[*source.notes, *describe_parts(options.protocol, source.items_by_part)],
    )


def examine(checked: Checked, console: Console | None = None) -> dict[str, Any]:
    """What there is to know of a split, as JSON values.

    Args:
        checked: the split, and what is known of its items.
        console: where progress is printed.

    Returns:
        ``split`` and ``sha256``; by part, ``items`` and ``repeated``; ``overlaps`` and ``leaks`` as
        `Split` has them, with those by equal inputs; ``leaking_items``, the first of them by name;
        ``conflicts``, ``notes`` and ``warnings``. With labels, ``unlabelled`` by part, ``classes`` with
        the items of each class by part, and ``order`` of the database. With inputs, ``same_content``,
        see `jaxhash.data.checks.duplicates.equal_inputs`, and ``left_out``.

    Example:
        >>> split = Split("small", np.array([0]), np.array([1]), np.array([1, 2]))
        >>> examine(Checked(split))["leaks"]
        ['query and database share 1 item']
    """
    split = checked.split
    found = {
        "split": split.name,
        "sha256": split.sha256,
        "items": {name: len(items) for name, items in split.parts.items()},
        "repeated": split.repeated(),
        "overlaps": split.overlaps(),
        "leaks": split.leaks,
        "leaking_items": split.named_leaks(checked.name_of),
        "conflicts": list(checked.conflicts),
        "notes": list(checked.notes),
        "warnings": [],
    }
    if checked.labels is not None:
        found |= _examine_labels(split, checked.labels, checked.class_names)
        useless, less = tell_relevance(checked.labels[split.query], checked.labels[split.database])
        found["warnings"] += useless
        found["notes"] += less
    if checked.inputs is not None:
        equal = equal_inputs(split, checked.inputs, console)
        found["same_content"] = equal.counts
        found["leaking_items"] += name_equal(equal, checked.name_of)
        leaks, few = tell_equal(equal.counts, found["items"])
        found["leaks"] = [*found["leaks"], *leaks]
        form = measure_inputs(checked.inputs, split.train)
        others = {name: items for name, items in split.parts.items() if name != "train"}
        found["warnings"] += [*form.remarks(checked.inputs, others), *few]
        found["left_out"] = list(checked.left_out)
    return found


def print_findings(found: Mapping[str, Any], console: Console) -> None:
    """Print what `examine` found; the last line says whether the split leaks."""
    console.print(_parts_table(found))
    if "classes" in found:
        console.print(_classes_table(found))
    for remark in _remarks(found):
        print_line(console, remark)


def _examine_labels(
    split: Split, labels: Int[np.ndarray, " items *classes"], class_names: Sequence[str]
) -> dict[str, Any]:
    """What there is to know of the labels of each part."""
    counts, unlabelled = {}, {}
    for name, items in split.parts.items():
        held = labels[items]
        if labels.ndim == 1:
            counts[name] = np.bincount(held[has_label(held)], minlength=len(class_names))
        else:
            counts[name] = (held != 0).sum(axis=0)
        unlabelled[name] = int((~has_label(held)).sum())
    return {
        "unlabelled": unlabelled,
        "classes": [
            {"class": class_name, **{name: int(counts[name][row]) for name in counts}}
            for row, class_name in enumerate(class_names)
        ],
        "order": _order(labels[split.database]),
    }


def _order(labels: Int[np.ndarray, " items *classes"]) -> dict[str, Any]:
    """Whether items with the same labels stand together: how many neighbors have the same ones.

    Said of an order where labels change less than half as often as they would in a random one.
    """
    _, row, sizes = np.unique(labels, axis=0, return_inverse=True, return_counts=True)
    row, pairs = row.reshape(-1), max(len(labels) * (len(labels) - 1), 1)
    alike = float(np.mean(row[1:] == row[:-1])) if len(row) > 1 else 0.0
    chance = float((sizes * (sizes - 1)).sum() / pairs)
    return {
        "neighbours_alike": alike,
        "by_chance": chance,
        "class_by_class": len(sizes) > 1 and 1 - alike < (1 - chance) / 2,
    }


def _parts_table(found: Mapping[str, Any]) -> Table:
    """Sizes, repeated and unlabelled items, and what the parts share."""
    table = Table(title=f"{found['split']}, split {found['sha256'][:12]}", box=None)
    table.add_column("part")
    parts, unlabelled = list(found["items"]), found.get("unlabelled")
    columns = ["items", "repeated"] + ["no label"] * (unlabelled is not None)
    for title in columns + [f"in {name}" for name in parts]:
        table.add_column(title, justify="right")
    for part in parts:
        cells = [found["items"][part], found["repeated"][part]]
        cells += [] if unlabelled is None else [unlabelled[part]]
        shared = [
            "-" if part == other else f"{found['overlaps'][part][other]:,}" for other in parts
        ]
        table.add_row(part, *(f"{cell:,}" for cell in cells), *shared)
    return table


def _classes_table(found: Mapping[str, Any]) -> Table:
    """The items of each class; of many classes, the fewest, the median and the most."""
    parts, classes = list(found["items"]), found["classes"]
    table = Table(title=f"items of each of {len(classes):,} classes", box=None)
    table.add_column("class")
    for part in parts:
        table.add_column(part, justify="right")
    if len(classes) <= MOST_ROWS:
        for row in classes:
            table.add_row(printable(row["class"]), *(f"{row[part]:,}" for part in parts))
        return table
    ordered = {part: sorted(classes, key=lambda row, part=part: row[part]) for part in parts}
    for title, place in (("fewest", 0), ("median", len(classes) // 2), ("most", -1)):
        rows = ((part, ordered[part][place]) for part in parts)
        table.add_row(title, *(f"{row[part]:,} ({row['class']})" for part, row in rows))
    return table


def _remarks(found: Mapping[str, Any]) -> Iterator[str]:
    """Findings in words, the least first; the last one is about leaks."""
    yield from found["notes"]
    if found.get("left_out"):
        named = _some(found["left_out"], "; ")
        yield f"warning: unreadable images, left out: {len(found['left_out']):,} ({named})"
    for part in found["items"]:
        empty = [printable(row["class"]) for row in found.get("classes", ()) if not row[part]]
        if empty:
            yield f"classes without any {part} item: {_some(empty, ', ')}"
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
            f"{len(found['conflicts']):,} ({_some(found['conflicts'], '; ')})"
        )
    yield from (f"by name: {sentence}" for sentence in found["leaking_items"])
    yield from (f"warning: {sentence}" for sentence in found["warnings"])
    again = found.get("same_content", {}).get("train", {}).get("database", 0)
    if again:
        yield f"training items with an equal input in database: {again:,}"
    yield f"leak: {'; '.join(found['leaks'])}" if found["leaks"] else "no leak"


def _some(entries: Sequence[str], separator: str) -> str:
    """The first few of many."""
    more = len(entries) - MOST_NAMED
    return separator.join(entries[:MOST_NAMED]) + (f" and {more:,} more" if more > 0 else "")

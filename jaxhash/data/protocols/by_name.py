"""Names of protocols, and the splits that they mean.

The default, ``auto``, is `jaxhash.data.protocols.own_parts` for data that come in parts and
`jaxhash.data.protocols.per_class` for others.
"""

import dataclasses
import difflib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Int

from jaxhash.data.protocols.general import (
    has_own_parts,
    own_parts,
    per_class,
    query_part,
    random_items,
    zero_shot,
)
from jaxhash.data.protocols.published import (
    cifar10_i,
    cifar10_i_prime,
    cifar10_ii,
    cifar100,
    coco,
    imagenet100,
    mirflickr,
    nus_wide_21,
    nus_wide_81,
)
from jaxhash.data.protocols.sampling import IsTest, Labels
from jaxhash.data.readers.split_files import read_split
from jaxhash.data.sources import Source
from jaxhash.data.splits import Split, TooFewItemsError
from jaxhash.utils.errors import UserError

#: Name of `per_class`, and its default counts.
PER_CLASS, DEFAULT_QUERIES, DEFAULT_TRAIN = "per-class", 100, 500

#: Name of `own_parts`.
OWN_PARTS = "parts"

#: The default: `OWN_PARTS` if the data come in parts, else `PER_CLASS`.
AUTO = "auto"

#: All other protocols, by name.
PROTOCOLS: dict[str, Callable[..., Split]] = {
    function.__name__.replace("_", "-"): function
    for function in (
        cifar10_i,
        cifar10_i_prime,
        cifar10_ii,
        cifar100,
        imagenet100,
        nus_wide_21,
        nus_wide_81,
        coco,
        mirflickr,
        zero_shot,
        random_items,
    )
}

#: Counts per class that each protocol accepts; protocols without an entry accept none.
COUNTS: dict[str, tuple[str, ...]] = {
    AUTO: ("queries", "train"),
    PER_CLASS: ("queries", "train"),
    OWN_PARTS: ("queries", "train"),
    "cifar10-i": ("queries", "train"),
    "cifar10-i-prime": ("queries", "train"),
    "nus-wide-21": ("queries", "train"),
    "imagenet100": ("train",),
}

#: Protocols that use the parts that the data come in.
_PART_AWARE = (OWN_PARTS, "cifar10-ii", "cifar100", "imagenet100", "zero-shot")


def check_protocol(name: str, queries: int | None = None, train: int | None = None) -> None:
    """Raises a `UserError` unless a protocol has this name and accepts the counts that are given.

    Valid names are ``auto``, ``per-class``, ``parts``, those of `PROTOCOLS`, and paths of .npz files.
    """
    known = (AUTO, PER_CLASS, OWN_PARTS, *PROTOCOLS)
    if name not in known and not name.lower().endswith(".npz"):
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise UserError(
            f"`protocol={name!r}` is unknown; {hint}there are {', '.join(known)}, FILE.npz"
        )
    for count, given in (("queries", queries), ("train", train)):
        if given is not None and count not in COUNTS.get(name, ()):
            takers = ", ".join(taker for taker, counts in COUNTS.items() if count in counts)
            raise UserError(
                f"`{count}_per_class` is not for `protocol={name}`, which has numbers of its own; it "
                f"is for {takers}"
            )


def make_split(
    protocol: str,
    labels: Labels,
    is_test: IsTest = None,
    *,
    queries: int | None = None,
    train: int | None = None,
    seed: int,
    folder: Path | None = None,
    parts: Mapping[str, Int[np.ndarray, " n"]] | None = None,
    class_names: Sequence[str] = (),
) -> Split:
    """Makes the split of a protocol.

    Args:
        protocol: ``auto``, ``per-class``, ``parts``, one of `PROTOCOLS`, or a file that
            `jaxhash.data.readers.split_files.read_split` reads.
        labels: class ids, or multi-hot rows, of all items.
        is_test: per item, 0 for the training part of the data set and 1 for the test part, if known.
        queries: number of queries per class; that of the protocol by default.
        train: number of training items per class, likewise.
        seed: seed of the draw.
        folder: folder of the file.
        parts: the items of each part that the data come in, by name.
        class_names: names of the classes, for messages.

    Raises:
        UserError: if the name is unknown, or the data do not fit the protocol.

    Example:
        >>> make_split("per-class", np.repeat([0, 1], 5), queries=1, train=2, seed=0).name
        'per-class-1-2-rest-seed0'
    """
    check_protocol(protocol, queries, train)
    parts = parts or {}
    protocol = resolve_protocol(protocol, parts)
    given = {"queries": queries, "train": train}
    counts = {name: count for name, count in given.items() if count is not None}
    try:
        if protocol == PER_CLASS:
            defaults = {"queries": DEFAULT_QUERIES, "train": DEFAULT_TRAIN}
            return per_class(labels, **(defaults | counts), seed=seed)
        if protocol == OWN_PARTS:
            return own_parts(labels, parts, seed, **counts)
        if protocol in PROTOCOLS:
            return PROTOCOLS[protocol](labels, is_test, seed, **counts)
    except TooFewItemsError as error:
        raise error.with_class_name(class_names) from None
    return read_split((folder or Path()) / protocol, items=len(labels))


def resolve_protocol(protocol: str, parts: Mapping[str, Int[np.ndarray, " n"]]) -> str:
    """Returns the protocol that ``auto`` means for data with these parts; other names as they are."""
    if protocol != AUTO:
        return protocol
    return OWN_PARTS if has_own_parts(parts) else PER_CLASS


def describe_parts(protocol: str, parts: Mapping[str, Int[np.ndarray, " n"]]) -> list[str]:
    """Returns a note on how a protocol uses the parts of the data; none if there are no parts.

    Example:
        >>> describe_parts("coco", {"train": np.arange(2), "test": np.arange(2, 4)})[0]
        '--protocol coco pools the parts of the data (train, test); --protocol parts keeps them'
    """
    if not parts:
        return []
    protocol = resolve_protocol(protocol, parts)
    # Results store these notes, so they name flags.
    if protocol not in _PART_AWARE:
        keeps = "; --protocol parts keeps them" * has_own_parts(parts)
        return [f"--protocol {protocol} pools the parts of the data ({', '.join(parts)}){keeps}"]
    if protocol != OWN_PARTS:
        return []
    used = {"queries": query_part(parts), "training": "train"}
    used["database"] = "database" if "database" in parts else "train"
    if "validation" in parts and used["queries"] != "validation":
        used["validation"] = "validation"
    roles = ", ".join(f"{role} from {part}" for role, part in used.items())
    unused = [part for part in parts if part not in used.values()]
    rest = f"; not used: {', '.join(unused)}" if unused else ""
    return [f"--protocol parts: {roles}{rest}; per-class would pool them and draw anew"]


@runtime_checkable
class SplitOptions(Protocol):
    """The options that choose a split, as arguments of a command or fields of a configuration."""

    protocol: str
    queries_per_class: int | None
    train_per_class: int | None
    labeled_per_class: int | None
    split_seed: int
    data_dir: Path | None


def describe_source(options: SplitOptions, source: Source) -> list[str]:
    """Returns the notes of a source, with how the options use the parts that it comes in."""
    if source.relevant is not None:  # its parts are no choice
        return [*source.notes]
    return [*source.notes, *describe_parts(options.protocol, source.items_by_part)]


def split_source(options: SplitOptions, source: Source) -> Split:
    """Makes the split of a source that the options choose, by `make_split`.

    Raises:
        UserError: as `make_split`; or if the source has lists of relevant items and the split is not of
            its own parts, which the lists are for.
    """
    if source.relevant is not None:
        _check_own_parts(options, source)
    split = make_split(
        options.protocol,
        source.labels,
        source.is_test,
        queries=options.queries_per_class,
        train=options.train_per_class,
        seed=options.split_seed,
        folder=options.data_dir,
        parts=source.items_by_part,
        class_names=source.class_names,
    )
    return dataclasses.replace(split, relevant=source.relevant, excluded=source.excluded)


def _check_own_parts(options: SplitOptions, source: Source) -> None:
    """Raises a `UserError` unless the split is that of the source's own parts, undrawn."""
    is_own = resolve_protocol(options.protocol, source.items_by_part) == OWN_PARTS
    drawn = [
        name
        for name in ("queries_per_class", "train_per_class", "labeled_per_class")
        if getattr(options, name) is not None
    ]
    if drawn or not is_own:
        what = drawn[0] if drawn else f"protocol={options.protocol}"
        raise UserError(
            f"`{what}`: the queries and training items of {source.name} are those of its file"
        )

"""Protocols: the name of one, and the split that it means.

Of data that come in parts of their own, `own_parts` takes these as they are: the default where there
are some, as `jaxhash.data.protocols.general.per_class` is where there are none. Those of named data sets are in
`jaxhash.data.protocols.published`; two more are for any data, or a file says it all.
"""

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
from jaxhash.data.protocols.sampling import Labels, Part
from jaxhash.data.readers.split_files import read_split
from jaxhash.data.sources import Source
from jaxhash.data.splits import FewItems, Split
from jaxhash.utils.errors import UserError

#: `jaxhash.data.protocols.general.per_class` with sizes of one's own, and those that it has without.
PER_CLASS, QUERIES, TRAIN = "per-class", 100, 500

#: `own_parts`.
OWN_PARTS = "parts"

#: The default: `OWN_PARTS` of data that have some, else `PER_CLASS`.
AUTO = "auto"

#: All protocols with sizes of their own by name.
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

#: Which of the counts of each class a protocol takes.
COUNTS: dict[str, tuple[str, ...]] = {
    AUTO: ("queries", "train"),
    PER_CLASS: ("queries", "train"),
    OWN_PARTS: ("queries", "train"),
    "cifar10-i": ("queries", "train"),
    "cifar10-i-prime": ("queries", "train"),
    "nus-wide-21": ("queries", "train"),
    "imagenet100": ("train",),
}

#: Protocols that look at the parts that data come in.
WITH_PARTS = (OWN_PARTS, "cifar10-ii", "cifar100", "imagenet100", "zero-shot")


def check_protocol(name: str, queries: int | None = None, train: int | None = None) -> None:
    """Raise a `UserError` unless a protocol has that name, and takes the counts that are given.

    It is ``auto``, ``per-class``, ``parts``, one of `PROTOCOLS`, or names a .npz file.
    """
    known = (AUTO, PER_CLASS, OWN_PARTS, *PROTOCOLS)
    if name not in known and not name.lower().endswith(".npz"):
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise UserError(
            f"--protocol {name!r} is unknown; {hint}there are {', '.join(known)}, FILE.npz"
        )
    for count, given in (("queries", queries), ("train", train)):
        if given is not None and count not in COUNTS.get(name, ()):
            takers = ", ".join(taker for taker, counts in COUNTS.items() if count in counts)
            raise UserError(
                f"--{count}-per-class is not for --protocol {name}, which has numbers of its own; it "
                f"is for {takers}"
            )


def make_split(
    protocol: str,
    labels: Labels,
    part: Part = None,
    *,
    queries: int | None = None,
    train: int | None = None,
    seed: int,
    folder: Path | None = None,
    parts: Mapping[str, Int[np.ndarray, " n"]] | None = None,
    class_names: Sequence[str] = (),
) -> Split:
    """The split that a name means.

    Args:
        protocol: ``auto``, ``per-class``, ``parts``, one of `PROTOCOLS`, or a file for `read_split`.
        labels: class ids, or multi-hot rows, of all items.
        part: 0 or 1 for the training and the test part of the data set, where they are known.
        queries: queries of each class; the protocol's own number if not given.
        train: training items of each class, likewise.
        seed: seed of the draw.
        folder: where the file lies.
        parts: the items of each part that the data come in, by name.
        class_names: names of the classes, for messages.

    Raises:
        UserError: if the name is unknown, or the data do not allow the protocol.

    Example:
        >>> make_split("per-class", np.repeat([0, 1], 5), queries=1, train=2, seed=0).name
        'per-class-1-2-rest-seed0'
    """
    check_protocol(protocol, queries, train)
    protocol, parts = resolve(protocol, parts or {}), parts or {}
    given = {"queries": queries, "train": train}
    counts = {name: count for name, count in given.items() if count is not None}
    try:
        if protocol == PER_CLASS:
            return per_class(labels, **({"queries": QUERIES, "train": TRAIN} | counts), seed=seed)
        if protocol == OWN_PARTS:
            return own_parts(labels, parts, seed, **counts)
        if protocol in PROTOCOLS:
            return PROTOCOLS[protocol](labels, part, seed, **counts)
    except FewItems as error:
        raise error.named(class_names) from None
    return read_split((folder or Path()) / protocol, items=len(labels))


def resolve(protocol: str, parts: Mapping[str, Int[np.ndarray, " n"]]) -> str:
    """The protocol that a name means for data with these parts."""
    if protocol != AUTO:
        return protocol
    return OWN_PARTS if has_own_parts(parts) else PER_CLASS


def tell_parts(protocol: str, parts: Mapping[str, Int[np.ndarray, " n"]]) -> list[str]:
    """What a protocol makes of the parts that data come in, in words; nothing if there are none.

    Example:
        >>> tell_parts("coco", {"train": np.arange(2), "test": np.arange(2, 4)})[0]
        '--protocol coco pools the parts of the data (train, test); --protocol parts keeps them'
    """
    if not parts:
        return []
    protocol = resolve(protocol, parts)
    if protocol not in WITH_PARTS:
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
    left = f"; not used: {', '.join(unused)}" if unused else ""
    return [f"--protocol parts: {roles}{left}; per-class would pool them and draw anew"]


@runtime_checkable
class SplitOptions(Protocol):
    """The options of a command that choose a split, as `make_split` has them."""

    protocol: str
    queries_per_class: int | None
    train_per_class: int | None
    split_seed: int
    data_dir: Path | None


def split_source(options: SplitOptions, source: Source) -> Split:
    """Make the split of a source that the options name, by `make_split`."""
    return make_split(
        options.protocol,
        source.labels,
        source.part,
        queries=options.queries_per_class,
        train=options.train_per_class,
        seed=options.split_seed,
        folder=options.data_dir,
        parts=source.items_of_parts,
        class_names=source.class_names,
    )

"""``jaxhash dedupe``: groups of near duplicates in an index."""

import dataclasses
import functools
import sys
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import tyro
from rich.console import Console
from rich.table import Table
from rich.text import Text

from jaxhash.cli.flags import FlagConsole
from jaxhash.cli.parsing import parse
from jaxhash.report.html.duplicates_page import write_duplicates_page
from jaxhash.retrieval.index import Index
from jaxhash.retrieval.near_duplicates.find import NearDuplicates, find_near_duplicates
from jaxhash.retrieval.near_duplicates.groups import Groups
from jaxhash.retrieval.near_duplicates.lists import (
    iterate_members,
    write_json,
    write_list,
)
from jaxhash.retrieval.near_duplicates.overview import describe_groups, radius_table
from jaxhash.utils.console import print_line, print_table
from jaxhash.utils.errors import UserError, printable
from jaxhash.utils.files import check_output

#: Pairs at the radius, groups, and duplicates of each group that are printed.
_PRINTED_PAIRS = 5
_PRINTED_GROUPS = 10
_PRINTED_DUPLICATES = 5


@dataclasses.dataclass(frozen=True)
class DedupeArguments:
    """Find near duplicates in an index: items whose codes differ in few bits.

    Nothing is removed: the lists say which item of each group is kept, and which are its duplicates.
    Codes that were trained with labels are alike within a class, not only for copies of an image: look at
    the pairs at the radius before you use the lists.
    """

    path: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="DIR")]
    """Folder of the index."""
    radius: int
    """Greatest Hamming distance of near duplicates, in bits."""
    against: Annotated[Path | None, tyro.conf.arg(metavar="DIR2")] = None
    """Another index of the same hash function: finds the items of DIR that are near one of DIR2, whose items are
    all kept."""
    groups: Literal["star", "components"] = "star"
    """star: a kept item and items within the radius of it. components: all items that pairs link; those at
    the ends of a chain may be far apart."""
    keep: Literal["first", "last", "largest", "smallest", "oldest", "newest"] = "first"
    """Which item of a group is kept: by id, by size of the file, or by the time of its last change; of equal ones
    that of the smallest id."""
    json: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Print JSON: a list of objects kept, an item, and duplicates, a list of items; an item has id, path,
    distance (to the kept one) and label. What is told else goes to the error stream."""
    output: Path | None = None
    """File for the list: that JSON (.json), a row for each item (.csv), or the duplicates' ids, one a line
    (.txt), for jaxhash index DIR --remove @FILE."""
    html: Path | None = None
    """File for a page with the images (.html), which needs no other file."""
    force: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Go on where the pairs of the radius chain."""

    def check(self) -> None:
        """Raises a `UserError` if a value is not allowed, or a file cannot be written."""
        if self.against is not None and self.groups == "components":
            raise UserError(
                "--groups components links items of DIR by one another, and --against compares them "
                "with those of DIR2 alone"
            )
        if self.output is not None:
            check_output(self.output, ".json", ".csv", ".txt")
        if self.html is not None:
            check_output(self.html, ".html", ".htm", argument="html")


def run(arguments: list[str], console: Console, command: str) -> None:
    """Runs the verb.

    Args:
        arguments: words after ``jaxhash dedupe``.
        console: where to print.
        command: the whole command line; not used.
    """
    if not arguments:
        raise UserError("name the folder of an index; jaxhash dedupe --help lists what is allowed")
    parsed = parse(DedupeArguments, arguments, prog="jaxhash dedupe")
    parsed.check()
    progress = FlagConsole(stderr=True, markup=False)
    if parsed.json:
        console = progress  # standard output holds the JSON alone
    index = Index.open(parsed.path)
    against = None if parsed.against is None else Index.open(parsed.against)
    found = find_near_duplicates(
        index, parsed.radius, keep=parsed.keep, against=against, console=progress
    )
    _print_pairs(console, found)
    if not parsed.force:
        found.check_chaining(parsed.groups)
    groups = found.group(parsed.groups)
    facts = describe_groups(found, groups, parsed.keep)
    members = functools.partial(
        iterate_members, groups, found.names, found.other_names, console=progress
    )
    if parsed.json:
        write_json(sys.stdout.write, members())
    else:
        _print_groups(console, found, groups)
    for fact in facts:
        print_line(console, fact)
    if parsed.output is not None:
        write_list(parsed.output, members())
    if parsed.html is not None:
        write_duplicates_page(parsed.html, found, groups, facts, index, against)
    for file in (parsed.output, parsed.html):
        if file is not None:
            print_line(console, f"written: {file}")


def _print_pairs(console: Console, found: NearDuplicates) -> None:
    """Prints the counts by radius, and pairs at the greatest distance within it."""
    titles, rows = radius_table(found)
    table = Table(box=None, pad_edge=False)
    for title in titles:
        table.add_column(title, justify="right")
    for row in rows:
        table.add_row(*row)
    print_table(console, table)
    pairs = found.boundary(_PRINTED_PAIRS)
    if not pairs:
        return
    print_line(
        console, f"\npairs at distance {pairs[0].distance}, the least similar ones that count:"
    )
    first = found.other_names.of(np.array([pair.first for pair in pairs]))
    second = found.names.of(np.array([pair.second for pair in pairs]))
    for pair, *names in zip(pairs, first, second, strict=True):
        ends = (
            f"{id}  {path}" + (f"  ({label})" if label else "")
            for id, (path, label) in zip(pair[:2], names, strict=True)
        )
        print_line(console, printable("  " + "   ".join(ends)))


def _print_groups(console: Console, found: NearDuplicates, groups: Groups) -> None:
    """Prints the first groups, and says how many are left out."""
    shown = np.arange(min(len(groups.kept), _PRINTED_GROUPS))
    if not len(shown):
        return
    table = Table(box=None, pad_edge=False)
    for title in ("group", "role", "id", "distance", "label", "path"):
        is_number = title in ("group", "id", "distance")
        table.add_column(title, justify="right" if is_number else "left", overflow="fold")
    members = iterate_members(
        groups.take(shown, _PRINTED_DUPLICATES), found.names, found.other_names
    )
    for group, role, id, path, distance, label in members:
        words = (f"{group}", role, f"{id}", f"{distance}", "-" if label is None else label, path)
        table.add_row(*(Text(printable(word)) for word in words))
    print_line(console, "")
    print_table(console, table)
    if len(groups.kept) > len(shown) or groups.sizes[shown].max() > _PRINTED_DUPLICATES:
        print_line(
            console,
            f"the first {len(shown)} groups, {_PRINTED_DUPLICATES} duplicates of each at most; --output "
            "and --html have more",
        )
    print_line(console, "")

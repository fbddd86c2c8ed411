"""``jaxhash search``: the nearest items of an index."""

import contextlib
import dataclasses
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro
from rich.console import Console
from rich.table import Table
from rich.text import Text

from jaxhash.cli.flags import FlagConsole
from jaxhash.cli.parsing import parse
from jaxhash.report.html.search_page import Hit, PageQuery, write_search_page
from jaxhash.retrieval.index import Index, IndexItem, SearchResult
from jaxhash.retrieval.item_images import item_images
from jaxhash.retrieval.queries import EncodedQueries, Query, encode_queries
from jaxhash.utils.console import print_line, print_table, track_progress
from jaxhash.utils.errors import UserError, printable
from jaxhash.utils.files import check_output, whole_file

#: Queries that are searched and printed at a time.
_QUERIES = 1024


@dataclasses.dataclass(frozen=True)
class SearchArguments:
    """Find the nearest items of an index, by the Hamming distance of their codes.

    A QUERY is an image file, a folder or a .txt list of them, a .npy or .npz of images or vectors, a
    .parquet with a column of vectors, tfds:NAME, digits; or id:ID for an item of the index. It is encoded by
    the hash function in the index, or by another of the same run (--run, --modality). Items at equal distance
    are in order of id.
    """

    path: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="DIR")]
    """Folder of the index."""
    queries: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="QUERY...")]
    """What to search for."""
    k: int | None = None
    """Number of items per query: 10 if not given, or all within the --radius."""
    radius: int | None = None
    """Greatest distance of an item."""
    where: Annotated[str | None, tyro.conf.arg(metavar="label=NAME")] = None
    """Search among the items of a label."""
    near_classes: int | None = None
    """Search, for each query, the items of this many labels alone, those whose majority code is nearest: a
    fraction of the work, and nearer items of other labels are missed."""
    run: Path | None = None
    """Folder of the run of several modalities whose hash function made the index."""
    modality: str | None = None
    """Which modality of that --run the queries are of, such as titles that search bodies."""
    rescore: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Rank the nearest items again, by the cosine of the real-valued codes or features that the index keeps
    (jaxhash encode --keep-floats float16)."""
    rescore_multiplier: int = 10
    """How many times --k items are ranked again."""
    json: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Print JSON: a list per query of objects with path, id, distance and label."""
    output: Path | None = None
    """File for that JSON (.json)."""
    html: Path | None = None
    """File for a page with the images (.html), which needs no other file."""

    def check(self) -> None:
        """Raises a `UserError` if a value is not allowed, or a file cannot be written."""
        if not self.queries:
            raise UserError("name a query; jaxhash search --help lists what is allowed")
        if self.rescore and self.radius is not None:
            raise UserError(
                "--rescore ranks the nearest --k items, and --radius takes all within it"
            )
        if self.near_classes is not None and (self.where is not None or self.radius is not None):
            raise UserError("--near-classes cannot be combined with --where or --radius")
        if self.rescore_multiplier != SearchArguments.rescore_multiplier and not self.rescore:
            raise UserError("--rescore-multiplier needs --rescore")
        if (self.run is None) != (self.modality is None):
            raise UserError("--run and --modality go together")
        if self.output is not None:
            check_output(self.output, ".json")
        if self.html is not None:
            check_output(self.html, ".html", ".htm", argument="html")

    @property
    def condition(self) -> dict[str, str] | None:
        """The items that are searched among, as `Index.search` takes them."""
        if self.where is None:
            return None
        name, equals, label = self.where.partition("=")
        if name != "label" or not equals:
            raise UserError(f"--where must be label=NAME, got {self.where!r}")
        return {"label": label}


def run(arguments: list[str], console: Console, command: str) -> None:
    """Runs the verb.

    Args:
        arguments: words after ``jaxhash search``.
        console: where to print.
        command: the whole command line; not used.
    """
    if not arguments:
        raise UserError("name the folder of an index; jaxhash search --help lists what is allowed")
    parsed = parse(SearchArguments, arguments, prog="jaxhash search")
    parsed.check()
    condition = parsed.condition
    index = Index.open(parsed.path)
    progress = FlagConsole(stderr=True, markup=False)  # standard output holds the results alone
    encoded = encode_queries(
        *(index, parsed.queries, progress),
        hasher=None if parsed.run is None else _other_hasher(index, parsed.run, parsed.modality),
        with_vectors=parsed.rescore,
        with_images=parsed.html is not None,
    )
    found = _search(index, encoded, parsed, condition, progress)
    with contextlib.ExitStack() as files:
        writers = list(_open_writers(parsed, index, console, files))
        for queries, results, notes in found:
            ids = np.unique(np.concatenate([result.ids for result in results]))
            items = dict(zip(ids.tolist(), index.items(ids), strict=True))
            for query, result, note in zip(queries, results, notes, strict=True):
                hits = [items[each] for each in result.ids.tolist()]
                for write in writers:
                    write(query, hits, result, note)
    for file in (parsed.output, parsed.html):
        if file is not None and not parsed.json:
            print_line(console, f"written: {file}")


def _other_hasher(index: Index, run: Path, modality: str | None) -> Any:
    """Loads the hash function of a modality, of the run whose other modality is in the index.

    Raises:
        UserError: if the index is of another run, or of a hash function of one modality.
    """
    from jaxhash.runs.load import load

    own = index.hasher().made_by.get("modality")
    if own is None:
        raise UserError(f"{index.folder} is not of a run of several modalities: leave out --run")
    made_it = load(run, modality=own)
    index.check_hasher(made_it.digest, made_it.bits, f"{run}, `modality={own}`,")
    return load(run, modality=modality)


def _search(
    index: Index,
    encoded: EncodedQueries,
    parsed: SearchArguments,
    condition: dict[str, str] | None,
    console: Console,
) -> Iterator[tuple[list[Query], list[SearchResult], list[str]]]:
    """Yields queries, the result of each without the axis of queries, and a note on it, block by block."""
    starts = range(0, len(encoded.queries), _QUERIES)
    blocks = (
        starts if len(starts) < 2 else track_progress(starts, "searching", len(starts), console)
    )
    for start in blocks:
        some = slice(start, start + _QUERIES)
        codes = encoded.codes[some]
        if parsed.radius is not None:
            found = index.range_search(codes, parsed.radius, where=condition, console=console)
            results, notes = zip(*(_first_of(result, parsed.k) for result in found), strict=True)
        else:
            result = index.search(
                codes,
                10 if parsed.k is None else parsed.k,
                where=condition,
                near_classes=parsed.near_classes,
                rescore=None if encoded.vectors is None else encoded.vectors[some],
                rescore_multiplier=parsed.rescore_multiplier,
                console=console,
            )
            notes = [""] * len(codes)
            is_exact = result.scores is None and parsed.near_classes is None
            if is_exact and not (parsed.json and parsed.html is None):
                ties = index.count_ties(codes, result, where=condition)
                counts = zip(*(each.tolist() for each in ties), strict=True)
                notes = [_tie_note(*each) for each in counts]
            columns = [[None] * len(codes) if each is None else each for each in result]
            results = [SearchResult(*each) for each in zip(*columns, strict=True)]
        yield encoded.queries[some], list(results), list(notes)


def _first_of(result: SearchResult, k: int | None) -> tuple[SearchResult, str]:
    """Returns the first k items within a radius, and what is to be said of those left out."""
    if k is None or k >= len(result.ids):
        return result, ""
    if k < 1:
        raise UserError(f"`k` must be at least 1, got {k}")
    note = f"{k:,} of the {len(result.ids):,} items within the radius"
    return SearchResult(result.distances[:k], result.ids[:k]), note


def _tie_note(distance: int, shown: int, total: int) -> str:
    if shown == total:
        return ""
    return f"{shown:,} of the {total:,} items at distance {distance}, those of the smallest ids"


def _open_writers(
    parsed: SearchArguments, index: Index, console: Console, files: contextlib.ExitStack
) -> Iterator[Any]:
    """Yields a function for each form of the results, which is called with each query."""
    if parsed.json:
        yield files.enter_context(_json_writer(sys.stdout.write))
    else:
        yield lambda *each: _print_result(console, *each)
    if parsed.output is not None:
        file = files.enter_context(whole_file(parsed.output, "w"))
        yield files.enter_context(_json_writer(file.write))
    if parsed.html is not None:
        write = files.enter_context(write_search_page(parsed.html, f"{index.folder}"))
        yield lambda *each: write(_page_query(index, *each))


@contextlib.contextmanager
def _json_writer(write_text: Callable[[str], Any]) -> Iterator[Any]:
    """Opens a list of results: a list for each query, on a line each."""
    before = "[\n"

    def write(_: Query, items: list[IndexItem], result: SearchResult, note: str) -> None:
        nonlocal before
        found: list[dict[str, Any]] = [
            {"path": item.path, "id": item.id, "distance": distance, "label": item.label}
            for item, distance in zip(items, result.distances.tolist(), strict=True)
        ]
        if result.scores is not None:
            for each, score in zip(found, result.scores.tolist(), strict=True):
                each["score"] = score
        write_text(before + json.dumps(found))
        before = ",\n"

    yield write
    write_text("\n]\n" if before != "[\n" else "[]\n")


def _print_result(
    console: Console, query: Query, items: list[IndexItem], result: SearchResult, note: str
) -> None:
    """Prints a table of the items, and what is to be said of ties."""
    table = Table(box=None, pad_edge=False, title=None)
    titles = ["distance", *([] if result.scores is None else ["cosine"]), "id"]
    for title in titles:
        table.add_column(title, justify="right")
    table.add_column("label")
    table.add_column("path", overflow="fold")
    for rank, item in enumerate(items):
        cosine = [] if result.scores is None else [f"{result.scores[rank]:.4f}"]
        label = "-" if item.label is None else item.label
        words = [f"{result.distances[rank]}", *cosine, f"{item.id}", label, item.path]
        table.add_row(*(Text(printable(word)) for word in words))
    console.print(Text(printable(query.name), style="bold"), soft_wrap=True)
    if items:
        print_table(console, table)
    print_line(console, f"{note}\n" if note else "" if items else "nothing within the radius\n")


def _page_query(
    index: Index, query: Query, items: list[IndexItem], result: SearchResult, note: str
) -> PageQuery:
    """Returns a query and its items as the page shows them."""
    hits = [
        Hit(
            item.path,
            image,
            distance=int(result.distances[rank]),
            label=item.label,
            score=None if result.scores is None else float(result.scores[rank]),
        )
        for rank, (item, image) in enumerate(zip(items, item_images(index, items), strict=True))
    ]
    return PageQuery(query.name, query.image, hits, note)

"""``jaxhash index``: what an index holds, and changes of it."""

import dataclasses
import os
import sys
from pathlib import Path
from typing import Annotated

import tyro
from rich import filesize
from rich.console import Console

from jaxhash.cli.encode_options import InputOptions
from jaxhash.cli.parsing import parse
from jaxhash.retrieval.index import Index
from jaxhash.retrieval.index.removal import find_named
from jaxhash.utils.console import print_line
from jaxhash.utils.errors import UserError, printable

#: Problems that are listed one by one.
_MAX_LISTED = 50


@dataclasses.dataclass(frozen=True)
class IndexArguments:
    """Show what an index holds, or change it.

    Several options are done in this order: --root, --remove, --add, --compact, --verify.
    """

    path: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="DIR")]
    """Folder of the index."""
    root: Path | None = None
    """Folder that the items lie in, where it has moved."""
    remove: Annotated[tuple[str, ...], tyro.conf.arg(metavar="PATH|ID|label=NAME|@FILE...")] = ()
    """Items to remove: by path (absolute, or relative to the root), by id, all of a label, or those that a
    text file names so, one a line. A path that looks like one of the others is written ./PATH. Their codes
    stay on disk until --compact."""
    add: Annotated[tuple[str, ...], tyro.conf.arg(metavar="INPUT...")] = ()
    """Inputs to encode by the hash function of the index, as for jaxhash encode; those that it holds
    already are passed over."""
    adding: Annotated[InputOptions, tyro.conf.arg(name=""), tyro.conf.OmitArgPrefixes] = (
        InputOptions()
    )
    """How they are read."""
    compact: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Rewrite the files without what was removed; ids stay."""
    verify: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Check digests, counts, ids and the hash function; status 1 if something is wrong."""
    files: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """With --verify: check, too, which files of the items are missing or have changed."""

    def check(self) -> None:
        """Raises `UserError` if a flag is given without the one that it belongs to."""
        if self.files and not self.verify:
            raise UserError("--files needs --verify")
        for field in dataclasses.fields(InputOptions):
            if getattr(self.adding, field.name) != field.default and not self.add:
                raise UserError(f"--{field.name.replace('_', '-')} needs --add")

    @property
    def changes(self) -> bool:
        """Returns whether the index is to be changed."""
        return bool(self.root or self.remove or self.add or self.compact)


def run(arguments: list[str], console: Console, command: str) -> None:
    """Runs the verb.

    Args:
        arguments: words after ``jaxhash index``.
        console: where to print.
        command: the whole command line; not used.
    """
    if not arguments:
        raise UserError("name the folder of an index; jaxhash index --help lists what is allowed")
    parsed = parse(IndexArguments, arguments, prog="jaxhash index")
    parsed.check()
    index = Index.open(parsed.path)
    if parsed.changes:
        with index.writing():
            _change(index, parsed, console)
    if parsed.verify:
        _verify(index, parsed.files, console)
    else:
        print_summary(index, console)


def print_summary(index: Index, console: Console) -> None:
    """Prints what an index holds."""
    manifest = index.manifest
    labels = index.count_labels()
    most = sorted(labels.items(), key=lambda pair: (-pair[1], pair[0]))
    shown = ", ".join(f"{name} {count:,}" for name, count in most[:5])
    root = f"{index.root}" if index.root else "none: the items are no files"
    if index.root and not manifest.root.startswith(os.sep):
        root += f" (by {manifest.root} from the index: both can be moved together)"
    lines = {
        "items": f"{len(index):,} of {index.bits} bits",
        "removed": f"{manifest.counts['removed']:,}, on disk until --compact",
        "broken": f"{manifest.counts['broken']:,} inputs could not be read",
        "labels": f"{len(labels):,}: {shown}{', ...' * (len(most) > 5)}" if labels else "none",
        "kept": ", ".join(f"{name} as {dtype}" for name, dtype in index.keep.items()),
        "thumbnails": f"of at most {index.thumbnail_side} pixels, {_size_of_thumbnails(index)}",
        "shards": f"{len(manifest.shards):,}",
        "on disk": filesize.decimal(_size_on_disk(index.folder)),
        "hash function": f"digest {index.digest[:12]}, check code {index.check_code[:16]}",
        "root": root,
    }
    for name in ("removed", "broken"):
        if not manifest.counts[name]:
            del lines[name]
    if not index.keep:
        del lines["kept"]
    if index.thumbnail_side is None:
        del lines["thumbnails"]
    print_line(console, printable(str(index.folder)))
    for name, text in lines.items():
        print_line(console, printable(f"  {name:<13}  {text}"))


def _change(index: Index, parsed: IndexArguments, console: Console) -> None:
    if parsed.root is not None:
        index.set_root(parsed.root)
    if parsed.remove:
        removed = index.remove(find_named(index, parsed.remove))
        print_line(console, f"removed {removed:,} items")
    if parsed.add:
        _add(index, parsed, console)
    if parsed.compact:
        before = _size_on_disk(index.folder)
        index.compact(console)
        after = _size_on_disk(index.folder)
        print_line(console, f"compacted: {filesize.decimal(before)} -> {filesize.decimal(after)}")


def _add(index: Index, parsed: IndexArguments, console: Console) -> None:
    # Here, since they load flax and the readers.
    from jaxhash.cli.encode import print_counts
    from jaxhash.data.inputs import open_inputs
    from jaxhash.retrieval.encode_index import encode_into

    hasher = index.hasher()
    opened = open_inputs(
        parsed.add,
        hasher.form,
        root=None if index.root is None else index.check_root(),
        **parsed.adding.opening,
    )
    for note in (note for inputs in opened.inputs for note in inputs.notes):
        print_line(console, printable(note))
    counts = encode_into(
        *(index, opened.inputs, console),
        hasher=hasher,
        batch_size=parsed.adding.batch_size,
        strict=parsed.adding.strict,
    )
    print_counts(index, counts, console)


def _verify(index: Index, files: bool, console: Console) -> None:
    problems = index.verify(files=files, console=console)
    for problem in problems[:_MAX_LISTED]:
        print_line(console, printable(problem))
    if len(problems) > _MAX_LISTED:
        print_line(console, f"and {len(problems) - _MAX_LISTED:,} more problems")
    if files and len(problems) >= len(index):
        print_line(
            console, f"is {index.root} still the root of the items? --root DIR names another"
        )
    if problems:
        sys.exit(1)
    if files and index.root is None:
        print_line(console, "its items are no files")
    has_read_files = files and index.root is not None
    what = "the index and the files of its items are" if has_read_files else "the index is"
    print_line(console, f"{index.folder}: {what} as written, {len(index):,} items")


def _size_of_thumbnails(index: Index) -> str:
    sizes = (shard.files.get(shard.name("thumbnails"), (0,))[0] for shard in index.manifest.shards)
    return filesize.decimal(sum(sizes))


def _size_on_disk(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())

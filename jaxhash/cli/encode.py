"""``jaxhash encode``: codes of images or vectors by a hash function, as an index."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console

from jaxhash.cli.encode_options import EncodeOptions
from jaxhash.cli.parsing import parse
from jaxhash.utils.console import print_line
from jaxhash.utils.errors import printable

#: Broken inputs that are listed.
_MAX_LISTED = 5


@dataclasses.dataclass(frozen=True)
class EncodeArguments:
    """Encode images or vectors by a trained hash function, into an index.

    An INPUT is a folder of images (of any nesting), an image file, a .txt list of them, a .npy or .npz of
    images or vectors, a .parquet with a column of vectors, tfds:NAME, folder:DIR, features:FILE,
    counts:FILE or digits. The same command goes on where it was interrupted, and adds what is new to an index.
    """

    run: Annotated[Path, tyro.conf.Positional]
    """Folder of a finished run, of a hash function that was exported, or of an index."""
    inputs: Annotated[tuple[str, ...], tyro.conf.Positional]
    """What to encode."""
    output: Path
    """Folder of the index: a new one, or an index by the same hash function."""
    encoding: Annotated[EncodeOptions, tyro.conf.arg(name=""), tyro.conf.OmitArgPrefixes]
    """How."""
    modality: str | None = None
    """Of a run of several modalities: which one the inputs are of."""


def run(arguments: list[str], console: Console, command: str) -> None:
    """Runs the verb.

    Args:
        arguments: words after ``jaxhash encode``.
        console: where to print.
        command: the whole command line.
    """
    parsed = parse(EncodeArguments, arguments, prog="jaxhash encode")
    parsed.encoding.check(parsed.inputs, parsed.output)
    encode(
        *(parsed.run, parsed.inputs, parsed.output, parsed.encoding, console),
        modality=parsed.modality,
    )


def encode(
    run: Path,
    inputs: Sequence[str],
    output: Path,
    options: EncodeOptions,
    console: Console,
    *,
    modality: str | None = None,
) -> None:
    """Encodes inputs into an index, prints what was done, and serves the index if that is asked for.

    Args:
        run: folder of the hash function.
        inputs: what to encode.
        output: folder of the index.
        options: how, checked.
        console: where to print.
        modality: whose hash function, of a run of several modalities.
    """
    from jaxhash.data.inputs import open_inputs
    from jaxhash.retrieval.encode_index import encode_into
    from jaxhash.retrieval.index import Index
    from jaxhash.runs.load import load

    hasher = load(run, modality=modality)
    root, keep, thumbnails = options.root, options.keep, options.thumbnail_side(hasher.form.kind)
    if (output / "index.json").exists():
        index = Index.open(output)
        index.check_hasher(hasher.digest, hasher.bits, str(run))
        keep = keep or index.keep
        if options.thumbnails is None:
            thumbnails = index.thumbnail_side
        if root is None and index.root is not None:
            root = index.check_root()
    opened = open_inputs(inputs, hasher.form, root=root, **options.opening)
    for note in [note for inputs in opened.inputs for note in inputs.notes]:
        print_line(console, printable(note))
    index = Index.create(
        *(output, hasher),
        root=opened.root,
        keep=keep,
        thumbnails=thumbnails,
        exist_ok=True,
    )
    counts = encode_into(
        *(index, opened.inputs, console),
        hasher=hasher,
        batch_size=options.batch_size,
        strict=options.strict,
    )
    print_counts(index, counts, console)
    if options.serve:
        from jaxhash.cli.serve import serve

        serve(output, console, **options.serving)


def print_counts(index, counts, console: Console) -> None:
    """Prints what was done."""
    for path, reason in counts.broken[:_MAX_LISTED]:
        print_line(console, printable(f"cannot be read: {path} ({reason})"))
    more = len(counts.broken) - _MAX_LISTED
    if more > 0:
        print_line(console, f"and {more:,} more; the items table of the index lists all")
    done = []
    if counts.added:
        rate = counts.added / max(counts.seconds, 1e-9)
        done.append(f"{counts.added:,} encoded in {counts.seconds:,.1f} s ({rate:,.1f}/s)")
    if counts.replaced:
        done.append(f"{counts.replaced:,} replaced, as their files had changed")
    if counts.unchanged:
        done.append(f"{counts.unchanged:,} there already")
    if counts.broken:
        done.append(f"{len(counts.broken):,} cannot be read")
    print_line(
        console,
        f"{', '.join(done)}; {index.folder} holds {len(index):,} items of {index.bits} bits",
    )

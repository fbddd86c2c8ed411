"""``jaxhash encode``: codes of images or vectors by a hash function, as an index."""

import dataclasses
import os
from pathlib import Path
from typing import Annotated, Literal

import tyro
from rich.console import Console

from jaxhash.cli.parsing import parse
from jaxhash.utils.console import print_line
from jaxhash.utils.errors import UserError, printable

#: Broken inputs that are listed.
_MAX_LISTED = 5


@dataclasses.dataclass(frozen=True)
class EncodeArguments:
    """Encode images or vectors by a trained hash function, into an index.

    An INPUT is a folder of images (of any nesting), an image file, a .txt list of them, a .npy or .npz of
    images or vectors, a .parquet with a column of vectors, tfds:NAME, folder:DIR, features:FILE or
    digits. The same command goes on where it was interrupted, and adds what is new to an index.
    """

    run: Annotated[Path, tyro.conf.Positional]
    """Folder of a finished run, of a hash function that was exported, or of an index."""
    inputs: Annotated[tuple[str, ...], tyro.conf.Positional]
    """What to encode."""
    output: Path
    """Folder of the index: a new one, or an index by the same hash function."""
    batch_size: int = 256
    """Inputs that are computed at a time; the codes do not depend on it."""
    strict: bool = False
    """Refuse inputs that cannot be read, rather than list them."""
    keep_floats: Literal["float16", "float32"] | None = None
    """Keep the real-valued codes as well, for jaxhash search --rescore."""
    keep_features: Literal["float16", "float32"] | None = None
    """Keep the features of the backbone as well, likewise."""
    root: Path | None = None
    """Folder that the paths of items are relative to: the deepest one that holds all inputs, if not
    given."""
    labels: str = "auto"
    """Labels of image files: by the first folder below an INPUT if all images lie in one (auto), or
    else refuse (folder); none; or a FILE with a path and a label on each line."""
    column: str | None = None
    """Column of the vectors in a .parquet, where it has several of lists."""
    data_dir: Path | None = None
    """What the inputs are relative to; folder of the TFDS sets."""

    @property
    def keep(self) -> dict[str, str]:
        """What the index keeps beside the codes, with its dtype."""
        if self.keep_floats and self.keep_features:
            raise UserError("an index keeps --keep-floats or --keep-features, not both")
        kept = {"floats": self.keep_floats, "features": self.keep_features}
        return {name: dtype for name, dtype in kept.items() if dtype}

    def check(self) -> None:
        """Raises a `UserError` if a value is not allowed, or an input lies in the output."""
        if self.batch_size < 1:
            raise UserError(f"`batch_size` must be at least 1, got {self.batch_size}")
        if not self.inputs:
            raise UserError("name what to encode; jaxhash encode --help lists what is allowed")
        output = os.path.realpath(self.output)
        for name in self.inputs:
            place = os.path.realpath(
                os.path.join(self.data_dir or "", name.removeprefix("folder:"))
            )
            if os.path.lexists(place) and os.path.commonpath([output, place]) == output:
                raise UserError(f"{name} lies in --output {self.output}, which holds codes")


def run(arguments: list[str], console: Console, command: str) -> None:
    """Runs the verb.

    Args:
        arguments: words after ``jaxhash encode``.
        console: where to print.
        command: the whole command line.
    """
    encode(parse(EncodeArguments, arguments, prog="jaxhash encode"), console)


def encode(parsed: EncodeArguments, console: Console) -> None:
    """Encodes inputs into an index, and prints what was done."""
    parsed.check()
    keep = parsed.keep
    from jaxhash.data.inputs import open_inputs
    from jaxhash.retrieval.encode_index import encode_into
    from jaxhash.retrieval.index import Index
    from jaxhash.runs.load import load

    hasher = load(parsed.run)
    root = parsed.root
    if (parsed.output / "index.json").exists():
        index = Index.open(parsed.output)
        index.check_hasher(hasher.digest, hasher.bits, str(parsed.run))
        keep = keep or index.keep
        if root is None and index.root is not None:
            root = index.check_root()
    opened = open_inputs(
        parsed.inputs,
        hasher.form,
        root=root,
        data_dir=parsed.data_dir,
        labels=parsed.labels,
        column=parsed.column,
    )
    for note in [note for inputs in opened.inputs for note in inputs.notes]:
        print_line(console, printable(note))
    index = Index.create(parsed.output, hasher, root=opened.root, keep=keep, exist_ok=True)
    counts = encode_into(
        *(index, opened.inputs, console),
        hasher=hasher,
        batch_size=parsed.batch_size,
        strict=parsed.strict,
    )
    print_counts(index, counts, console)


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

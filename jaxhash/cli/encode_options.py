"""The flags that the commands share that encode inputs."""

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from jaxhash.utils.errors import UserError


@dataclasses.dataclass(frozen=True, kw_only=True)
class InputOptions:
    """How inputs are opened and read."""

    batch_size: int = 256
    """Inputs that are computed at a time; the codes do not depend on it."""
    strict: bool = False
    """Refuse inputs that cannot be read, rather than list them."""
    labels: str = "auto"
    """Labels of image files: by the first folder below an INPUT if all images lie in one (auto), or
    else refuse (folder); none; or a FILE with a path and a label on each line."""
    column: str | None = None
    """Column of the vectors in a .parquet, where it has several of lists."""
    data_dir: Path | None = None
    """What the inputs are relative to; folder of the TFDS sets."""

    @property
    def opening(self) -> dict[str, Any]:
        """The arguments of `jaxhash.data.inputs.open_inputs`, but for the root."""
        return {name: getattr(self, name) for name in ("labels", "column", "data_dir")}


@dataclasses.dataclass(frozen=True, kw_only=True)
class EncodeOptions(InputOptions):
    """How inputs are encoded into an index."""

    root: Path | None = None
    """Folder that the paths of items are relative to: the deepest one that holds all inputs, if not
    given."""
    keep_floats: Literal["float16", "float32"] | None = None
    """Keep the real-valued codes beside the codes, for jaxhash search --rescore."""
    keep_features: Literal["float16", "float32"] | None = None
    """Keep the features of images, or vectors themselves, beside the codes, likewise."""
    thumbnails: int | None = None
    """Longest side in pixels of a small image that is kept of each image, for pages; 96 if not given, 0
    for none."""
    serve: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Serve a page to search the index when it is done, as jaxhash serve does."""
    port: int | None = None
    """Port of that page: 8000 if not given, 0 for a free one."""

    @property
    def keep(self) -> dict[str, str]:
        """What the index keeps beside the codes, with its dtype."""
        if self.keep_floats and self.keep_features:
            raise UserError("an index keeps --keep-floats or --keep-features, not both")
        kept = {"floats": self.keep_floats, "features": self.keep_features}
        return {name: dtype for name, dtype in kept.items() if dtype}

    @property
    def serving(self) -> dict[str, Any]:
        """The arguments of `jaxhash.cli.serve.serve` that are given."""
        return {} if self.port is None else {"port": self.port}

    def thumbnail_side(self, kind: str) -> int | None:
        """Returns the longest side of the thumbnails of a new index; None if it keeps none.

        Args:
            kind: what the hash function takes, ``images`` or ``vectors``.

        Raises:
            UserError: if thumbnails of vectors are asked for.
        """
        from jaxhash.data.writers.thumbnails import THUMBNAIL_SIDE

        if kind == "images":
            return THUMBNAIL_SIDE if self.thumbnails is None else self.thumbnails or None
        if self.thumbnails:
            raise UserError("`thumbnails` are of images, and these are vectors")
        return None

    def check(self, inputs: Sequence[str], output: Path) -> None:
        """Raises a `UserError` if a value is not allowed, or an input lies in the output."""
        if self.batch_size < 1:
            raise UserError(f"`batch_size` must be at least 1, got {self.batch_size}")
        if self.thumbnails:
            # Here, since it loads jax, without which help is printed and mistakes are told.
            from jaxhash.data.writers.thumbnails import check_thumbnail_side

            check_thumbnail_side(self.thumbnails)
        _ = self.keep
        if self.port is not None and not self.serve:
            raise UserError("--port needs --serve")
        if self.serve:
            from jaxhash.cli.serve import check_serve

            check_serve(**self.serving)
        if not inputs:
            raise UserError("name what to encode; jaxhash encode --help lists what is allowed")
        folder = os.path.realpath(output)
        for name in inputs:
            place = os.path.realpath(
                os.path.join(self.data_dir or "", name.removeprefix("folder:"))
            )
            if os.path.lexists(place) and os.path.commonpath([folder, place]) == folder:
                raise UserError(f"{name} lies in --output {output}, which holds codes")

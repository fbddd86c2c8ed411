"""Writes the features of a data set by a published backbone into one file (``jaxhash data features``).

A hash function is trained on such a file in seconds: ``jaxhash train --dataset features:FILE.npz``.
"""

import dataclasses
import hashlib
import json
import shutil
import time
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console

from jaxhash import models
from jaxhash.data.load import load_source
from jaxhash.data.pipeline import evaluation_batches
from jaxhash.data.readers.image_files import INDEX_NAME, ImageFiles, write_index
from jaxhash.data.readers.images import Resize
from jaxhash.data.rows import StoredRows
from jaxhash.data.sources import Source
from jaxhash.models.config import ModelConfig
from jaxhash.retrieval.encode import make_encoder
from jaxhash.training.devices import hardware
from jaxhash.utils.console import print_line, show_work, track_progress
from jaxhash.utils.errors import UserError
from jaxhash.utils.files import check_output, whole_file
from jaxhash.utils.hardware import versions

#: Number of batches in a shard.
BATCHES_PER_SHARD = 40


def write_features(
    dataset: str,
    output: Path,
    console: Console,
    *,
    backbone: models.BackboneName,
    weights: models.Pretrained | Path,
    data_dir: Path | None = None,
    preprocessing: models.PreprocessingName = "published",
    image_size: int | None = None,
    dtype: Literal["float32", "bfloat16"] = "float32",
    batch_size: int = 250,
    command: str = "",
) -> None:
    """Encodes all images and writes a file for the source ``features:FILE.npz``.

    It holds ``features``, ``labels`` and ``class_names``; ``split`` and ``split_names`` if the data set
    comes in parts; ``item_names`` if its items have names; and ``provenance``, a JSON object with the data
    set, the network and the SHA-256 of its weights.

    Features are first written in shards, in a folder beside the file, which is removed at the end. After
    an interruption the same call continues from there, and ends with the same bytes.

    Args:
        dataset: name of a data set of images, as in `jaxhash.data.load.load_source`.
        output: .npz file to write.
        console: console for messages.
        backbone: name of the network.
        weights: file of its published weights, or FILE:KEY for those under a key; ``"pretrained"`` for
            those that are installed.
        data_dir: folder of the data set.
        preprocessing: normalization of images of bytes.
        image_size: height and width in pixels to which images are resized on the device; None leaves
            them, or resizes them as pretrained weights were published.
        dtype: dtype of the computation; the features are float32.
        batch_size: number of images of a batch, over all devices.
        command: the command line, to store in ``provenance``.

    Raises:
        UserError: if an argument is not allowed, the network cannot encode the data, or the shards
            are of another call.
    """
    if batch_size < 1:
        raise UserError(f"`batch_size` must be at least 1, got {batch_size}")
    config = ModelConfig(
        model=backbone,
        weights=weights,
        preprocessing=preprocessing,
        image_size=image_size,
        dtype=dtype,
    )
    config.check()
    check_output(output, ".npz", new=True)
    network = config.backbone()
    prepared = dataclasses.asdict(network.preprocessing)
    folder = output.with_name(f"{output.name}.shards")
    size = Resize.of(prepared["size"], prepared)
    with show_work(f"opening {dataset}", console):
        source = load_source(dataset, data_dir, size, index_file=folder / INDEX_NAME)
    example = source.inputs[:1]
    if example.ndim != 4:
        raise UserError(f"`dataset={dataset}` holds feature vectors; a backbone takes images")
    models.check_model(backbone, network, example)
    read = config.read_weights(example)
    if read.prefix:
        print_line(console, f"the weights of {read.file} (its {read.prefix}*)")
    if config.input_size != image_size:
        print_line(console, f"images of {config.input_size} x {config.input_size}, as published")
    weights_sha256 = hashlib.sha256(read.file.read_bytes()).hexdigest()
    for note in source.notes:
        print_line(console, note)
    provenance = {
        "command": command,
        "data": dataset,
        "backbone": backbone,
        "weights": read.file.name,
        "weights_prefix": read.prefix,
        "weights_sha256": weights_sha256,
        "preprocessing": prepared,
        "dtype": jnp.dtype(dtype).name,
        "hardware": hardware(),
        "versions": versions(("jaxhash", "jax", "jaxlib", "flax")),
    }
    _open_shards(folder, provenance | {"inputs": _digest(source), "batch": batch_size})
    write_index(source, folder)
    start = time.monotonic()
    shards, encoded = _encode(
        source,
        network,
        read.variables,
        folder,
        console,
        batch_size=batch_size,
        title=(dataset, backbone),
    )
    seconds = time.monotonic() - start
    arrays = {
        "labels": source.labels,
        "class_names": np.array(source.class_names),
        "provenance": np.array(json.dumps(provenance)),
    }
    if source.parts is not None:
        arrays |= {"split": source.part_ids, "split_names": np.array(source.parts)}
    if source.item_names is not None:
        arrays["item_names"] = np.array(list(source.item_names))
    dimensions = _write_npz(output, shards, arrays)
    shutil.rmtree(folder)
    print_line(
        console,
        f"{output}: {len(source.labels):,} images, {dimensions:,} features each, "
        f"{encoded / seconds:,.0f} images/s",
    )


def _encode(
    source: Source,
    network: models.Backbone,
    variables: dict,
    folder: Path,
    console: Console,
    *,
    batch_size: int,
    title: tuple[str, str],
) -> tuple[list[Path], int]:
    """Writes the missing shards; returns all shards in order, and the number of items encoded now.

    Args:
        source: the data set.
        network: the backbone.
        variables: its weights.
        folder: folder of the shards.
        console: console for messages.
        batch_size: number of images of a batch.
        title: names of the data set and of the backbone, for messages.
    """
    dataset, backbone = title
    items = np.arange(len(source.labels))
    size = min(batch_size, len(items))
    shards = {
        folder / f"{number:06d}.npy": rows
        for number, rows in enumerate(
            np.split(items, range(0, len(items), BATCHES_PER_SHARD * size)[1:])
        )
    }
    missing = {path: rows for path, rows in shards.items() if not path.is_file()}
    count = sum(map(len, missing.values()))
    print_line(
        console,
        f"{dataset}: {count:,} images through {backbone} on "
        f"{len(jax.local_devices())} x {jax.local_devices()[0].device_kind}",
    )
    if count < len(items):
        print_line(console, f"{len(items) - count:,} more are in {folder}")
    batches = sum(-(-len(rows) // size) for rows in missing.values())
    ticks = track_progress(range(batches), f"batches of {size:,}", batches, console)
    encode = make_encoder(network)
    for path, rows in missing.items():
        batches = evaluation_batches(source, rows, batch_size=size)
        tracked = (batch for batch, _ in zip(batches, ticks, strict=False))
        features = encode(variables, tracked)
        broken = rows[~np.isfinite(features).all(axis=1)]
        if len(broken):
            raise UserError(
                f"{backbone} makes features that are not finite of {len(broken):,} images, "
                f"{source.name_of(broken[0])} the first"
            )
        with whole_file(path, "wb") as file:
            np.save(file, features)
    return list(shards), count


def _open_shards(folder: Path, made_of: dict[str, Any]) -> None:
    """Makes the folder of the shards, or checks that existing shards are of the same call."""
    path, content = folder / "made_of.json", json.dumps(made_of, indent=2)
    if not path.is_file():
        folder.mkdir(exist_ok=True)
        if any(folder.iterdir()):
            raise UserError(f"{folder} is in the way: it holds no shards of features; remove it")
        with whole_file(path, "w") as file:
            file.write(content)
    elif (before := path.read_text(errors="replace")) != content:
        other = _first_difference(before, content)
        raise UserError(
            f"{folder} holds features of another call (its {other} is another); remove it, or choose "
            "another `output`"
        )


def _first_difference(before: str, now: str) -> str:
    """Returns the key of the first entry that differs between two JSON texts."""
    made_of = json.loads(now)
    try:
        stored = dict(json.loads(before))
    except (ValueError, TypeError):
        stored = {}
    return next((key for key in made_of if stored.get(key) != made_of[key]), "content")


def _digest(source: Source) -> str:
    """Returns a digest of the labels, the item names, and the images or their index."""
    digest = hashlib.sha256(source.labels.tobytes())
    for name in source.item_names or ():
        digest.update(name.encode() + b"\0")
    if isinstance(source.inputs, ImageFiles):
        digest.update(json.dumps(source.inputs.index).encode())
    elif isinstance(source.inputs, StoredRows):
        digest.update(source.inputs.fingerprint.encode())
    elif isinstance(source.inputs, np.ndarray):
        digest.update(np.ascontiguousarray(source.inputs))
    return digest.hexdigest()


def _write_npz(path: Path, shards: Sequence[Path], arrays: Mapping[str, np.ndarray]) -> int:
    """Writes the features of all shards and the other arrays, as np.savez does; returns the dimensions."""
    parts = [np.load(shard, mmap_mode="r") for shard in shards]
    shape = (sum(map(len, parts)), *parts[0].shape[1:])
    descr = np.lib.format.dtype_to_descr(parts[0].dtype)
    header = {"descr": descr, "fortran_order": False, "shape": shape}
    with whole_file(path, "wb") as file, zipfile.ZipFile(file, "w") as archive:
        with archive.open("features.npy", "w", force_zip64=True) as member:
            np.lib.format.write_array_header_1_0(member, header)
            for part in parts:
                member.write(np.ascontiguousarray(part))
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, np.asarray(array), allow_pickle=False)
    return shape[1]

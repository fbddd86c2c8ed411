"""Times an encoding into an index, and its parts: decoding alone, and the bare network on decoded images.

    python experiments/encode_speed.py --photos FOLDER

The photographs of a folder are copied under other names, and encoded by networks with random weights: one
beside which decoding costs little, and a small one beside which it costs most. The three are timed in turns;
medians count. CPU seconds are those of all threads, which other work on the machine disturbs less; so the
share of thumbnails, which an encoding keeps unless it is told not to, is one of CPU seconds. The results are written to experiments/results/encode_speed.json.
"""

import io
import shlex
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
import tyro
from rich.console import Console

from jaxhash.data.input_form import InputForm
from jaxhash.data.inputs import open_inputs
from jaxhash.data.writers.thumbnails import THUMBNAIL_SIDE
from jaxhash.models import Encoder, backbone_factory, preprocessing_of
from jaxhash.retrieval.encode_index import encode_into
from jaxhash.retrieval.hasher import Hasher
from jaxhash.retrieval.index import Index
from jaxhash.training.devices import hardware
from jaxhash.utils.files import write_json
from jaxhash.utils.hardware import versions

PATH = Path(__file__).parent / "results" / "encode_speed.json"


class Network(NamedTuple):
    """A network, the height and width of its images, and how many are encoded."""

    name: str
    image_size: int
    images: int


NETWORKS = (Network("mobilenet-v2", 224, 128), Network("cnn", 32, 1024))


def make_hasher(network: Network) -> Hasher:
    """Returns a hash function of 64 bits with random weights."""
    model = Encoder(backbone_factory(network.name), bits=64)
    size, shape = network.image_size, (network.image_size, network.image_size, 3)
    prepared = preprocessing_of(model)
    form = InputForm("images", shape, "uint8", 0.0, 255.0, 128.0, None, size, prepared)
    variables = model.init(jax.random.key(0), np.zeros((1, *shape), np.uint8))
    return Hasher(model, jax.device_get(variables), form)


def copy_photos(photos: Path, folder: Path, count: int) -> None:
    """Copies photographs in turns, under numbered names."""
    files = sorted(photos.glob("*.jpg"))
    folder.mkdir()
    for number in range(count):
        shutil.copy(files[number % len(files)], folder / f"{number:05}.jpg")


def measure(network: Network, photos: Path, *, batch_size: int, rounds: int) -> dict:
    """Measures images a second and CPU seconds of the three, in turns."""
    hasher = make_hasher(network)
    apply = jax.jit(hasher.apply)
    variables = jax.device_put(hasher.variables)
    wall, cpu = {}, {}

    def timed(name, work):
        start, used = time.perf_counter(), time.process_time()
        result = work()
        wall.setdefault(name, []).append(time.perf_counter() - start)
        cpu.setdefault(name, []).append(time.process_time() - used)
        return result

    with tempfile.TemporaryDirectory() as scratch:
        copy_photos(photos, Path(scratch, "photos"), network.images)
        root, [inputs] = open_inputs([Path(scratch, "photos")], hasher.form)
        blocks = [slice(start, start + batch_size) for start in range(0, len(inputs), batch_size)]

        def decode():
            return [inputs.read(rows, hasher.form).inputs for rows in blocks]

        def encode(name, side=None):
            folder = Path(scratch, f"index{name}{side}")
            index = Index.create(folder, hasher, root=root, thumbnails=side)
            encode_into(
                index, [inputs], Console(file=io.StringIO()), hasher=hasher, batch_size=batch_size
            )

        batches = decode()
        apply(variables, batches[0]).block_until_ready()
        encode("compilation")
        for turn in range(rounds):
            timed("decoding", decode)
            timed("network", lambda: [np.asarray(apply(variables, batch)) for batch in batches])
            timed("encoding", lambda turn=turn: encode(turn))
            timed("with_thumbnails", lambda turn=turn: encode(turn, THUMBNAIL_SIDE))
    ratios = np.array(wall["network"]) / np.array(wall["encoding"])
    thumbnails = np.array(cpu["with_thumbnails"]) / np.array(cpu["encoding"]) - 1
    return {
        **network._asdict(),
        "images_a_second": {name: network.images / float(np.median(t)) for name, t in wall.items()},
        "cpu_seconds_per_1000": {
            name: 1000 * float(np.median(t)) / network.images for name, t in cpu.items()
        },
        "encoding_per_network": float(np.median(ratios)),
        "share_of_thumbnails": float(np.median(thumbnails)),
    }


def main(photos: Path, batch_size: int = 64, rounds: int = 5) -> None:
    """Measures each network and writes the results.

    Args:
        photos: folder of JPEG files.
        batch_size: images that are computed at a time; a divisor of their number.
        rounds: number of rounds; the median counts.
    """
    points = []
    for network in NETWORKS:
        points.append(measure(network, photos, batch_size=batch_size, rounds=rounds))
        speeds = {name: round(speed, 1) for name, speed in points[-1]["images_a_second"].items()}
        print(
            f"{network.name}: {speeds} images/s; {points[-1]['encoding_per_network']:.2f} of bare; "
            f"thumbnails cost {points[-1]['share_of_thumbnails']:+.1%}"
        )
    write_json(
        PATH,
        {
            "command": shlex.join(["python", "experiments/encode_speed.py", "--photos", "FOLDER"]),
            "hardware": hardware(),
            "versions": versions(["jax", "jaxlib", "numpy", "pillow", "jaxhash"]),
            "batch_size": batch_size,
            "rounds": rounds,
            "networks": points,
        },
    )


if __name__ == "__main__":
    sys.exit(tyro.cli(main))

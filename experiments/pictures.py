"""Draws the pictures of docs/images: the search page, the code space, and mAP over the length of codes.

    python experiments/pictures.py --data-dir DIR

DIR has the TFDS set fashion_mnist under tfds and cifar10_mobilenetv2.npz under features. Three short runs
under runs/pictures go on where they stopped; without them a picture takes seconds. The page is that of
``jaxhash serve`` in a headless Chromium, which must be installed as ``chromium``; mAP is that of
results/methods.json.
"""

import contextlib
import json
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from statistics import fmean, stdev

import numpy as np
import tyro
import uvicorn
from matplotlib.figure import Figure
from PIL import Image
from rich.console import Console

import jaxhash
from jaxhash.data.inputs import open_inputs
from jaxhash.report.plots.comparison import add_legend
from jaxhash.report.plots.style import COLORS, INK, LINE_STYLES, PAGE_WIDTH, styled, write_figure
from jaxhash.retrieval import Index
from jaxhash.retrieval.encode_index import encode_into
from jaxhash.runs.presets import PRESETS
from jaxhash.serve.app import make_app
from jaxhash.serve.server import open_socket, url_of

HERE = Path(__file__).parent
IMAGES = HERE.parent / "docs" / "images"
RUNS = Path("runs") / "pictures"

#: Methods whose mAP is drawn: such that gain by a quantizer, and in the last row such that do not.
METHODS = ("dsh", "dtsh", "dch", "greedyhash", "dpsh", "dbdh", "hashnet", "csq", "orthohash")
QUANTIZERS = {"none": "no quantizer", "own": "the published penalty", "hswd": "HSWD"}

#: The first classes of CIFAR-10, as many as there are colors.
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog")


@styled
def plot_map(content: dict) -> Figure:
    """Draws mAP against the number of bits, a panel for each method, a line for each quantizer."""
    found: dict[tuple[str, str], dict[int, list[float]]] = {}
    for row in content["rows"]:
        values = [member["scores"]["map"] for member in row["members"]]
        found.setdefault((row["method"], row["quantizer"]), {})[row["bits"]] = values
    figure = Figure(figsize=(PAGE_WIDTH, 6.6), layout="constrained")
    panels = figure.subplots(3, 3, sharex=True, sharey=True)
    styles = dict(zip(QUANTIZERS, (LINE_STYLES[1], LINE_STYLES[3], LINE_STYLES[0]), strict=True))
    for axes, method in zip(panels.flat, METHODS, strict=True):
        for quantizer, style in styles.items():
            values = found.get((method, quantizer), {})
            means, deviations = ([of(each) for each in values.values()] for of in (fmean, stdev))
            label = QUANTIZERS[quantizer]
            axes.errorbar(
                [*values], means, deviations, markersize=4, capsize=2, label=label, **style
            )
        axes.set_xscale("log", base=2)
        axes.set(title=method, xticks=(16, 32, 64), xticklabels=(16, 32, 64))
        axes.minorticks_off()
    for axes in panels[:, 0]:
        axes.set_ylabel("mAP")
    for axes in panels[-1]:
        axes.set_xlabel("bits")
    handles = panels[0, 0].get_legend_handles_labels()
    figure.legend(*handles, loc="outside lower left", ncols=len(QUANTIZERS))
    return figure


@styled
def plot_codes(codes: dict[str, np.ndarray], labels: np.ndarray) -> Figure:
    """Draws the first two bits of queries, and the values of all bits, a column for each training.

    Each column has its own scale, of 99.5 % of its values; dashed lines are at -1 and +1.

    Args:
        codes: by the title of a training, real-valued codes of the queries [n, bits].
        labels: class ids [n].
    """
    figure = Figure(figsize=(PAGE_WIDTH, 6.2), layout="constrained")
    panels = figure.subplots(2, len(codes), squeeze=False, height_ratios=(2, 1))
    for (above, below), (title, values) in zip(panels.T, codes.items(), strict=True):
        limit = float(np.quantile(np.abs(values), 0.995))
        for number, style in enumerate(LINE_STYLES):
            of_class = values[labels == number, :2]
            above.plot(*of_class.T, **style | {"linestyle": ""}, markersize=3.5, alpha=0.7)
        for axes in (above, below):
            axes.axvline(0, color=INK, linewidth=0.8)
            for sign in (-1, 1):
                axes.axvline(sign, color=INK, linewidth=0.8, linestyle="--")
        above.axhline(0, color=INK, linewidth=0.8)
        above.set(title=title, xlabel="bit 1", ylabel="bit 2")
        above.set(xlim=(-limit, limit), ylim=(-limit, limit))
        below.hist(values.ravel(), np.linspace(-limit, limit, 81), color=COLORS[0])
        below.set(xlabel=f"value of a bit, all {values.shape[1]} bits", ylabel="queries x bits")
        below.set_xlim(-limit, limit)
    add_legend(figure, panels[0, 0], CLASSES)
    return figure


def train_codes(data_dir: Path) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Trains DTSH on CIFAR-10 features, without and with HSWD; returns codes and labels of the queries."""
    codes, labels = {}, np.zeros(0)
    for quantizer, words in (("none", "DTSH, no quantizer"), ("hswd", "DTSH and HSWD")):
        config = PRESETS["cifar10-features-dtsh"]().replace(
            bits=16,
            quantizer=quantizer,
            baselines="none",
            data_dir=data_dir / "features",
            run_dir=RUNS / f"dtsh-{quantizer}",
        )
        results = jaxhash.train(config)
        experiment = jaxhash.Experiment.open(config)
        queries = experiment.split.query
        hasher = jaxhash.load(config.run.run_dir)
        inputs = hasher.preprocess(experiment.source.inputs[queries])
        codes[f"{words}: mAP {results['map']:.3f}"] = hasher.encode_floats(inputs)
        labels = experiment.source.labels[queries]
    return codes, labels


def make_index(data_dir: Path, folder: Path) -> Path:
    """Trains on Fashion-MNIST, and makes an index of its 10,000 test images, as files by class."""
    config = PRESETS["fashion-mnist-hashnet-hswd"]().replace(
        baselines="none", data_dir=data_dir / "tfds", run_dir=RUNS / "fashion-mnist"
    )
    jaxhash.train(config)
    source = jaxhash.Experiment.open(config).source
    for row in range(60_000, 70_000):  # the test part comes last
        name = source.class_names[source.labels[row]].replace("/", " or ")
        path = folder / "images" / name / f"{row - 60_000:04}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.squeeze(source.inputs[row])).save(path)
    hasher = jaxhash.load(config.run.run_dir)
    root, inputs = open_inputs([str(folder / "images")], hasher.form)
    index = Index.create(folder / "fashion", hasher, root=root)
    encode_into(index, inputs, Console(quiet=True))
    return index.folder


@contextlib.contextmanager
def serving(index: Path) -> Iterator[str]:
    """Serves an index in a thread, and yields its address."""
    with open_socket("127.0.0.1", 0) as opened:
        server = uvicorn.Server(uvicorn.Config(make_app(index), log_level="error", ws="none"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [opened]})
        thread.start()
        try:
            yield url_of(opened)
        finally:
            server.should_exit = True
            thread.join()


def take_page(url: str, path: Path) -> None:
    """Takes a picture of a page in a headless Chromium, 1,200 pixels wide, in its light colors."""
    browser = shutil.which("chromium")
    if browser is None:
        raise SystemExit("there is no chromium here, which shows the page")
    with tempfile.TemporaryDirectory() as profile:
        options = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
        options += ["--window-size=1200,780", "--virtual-time-budget=20000"]
        options += [f"--user-data-dir={profile}", f"--screenshot={path.resolve()}"]
        subprocess.run([browser, *options, url], check=True, capture_output=True, timeout=120)
    with Image.open(path) as picture:
        picture.quantize(256, dither=Image.Dither.NONE).save(path, optimize=True)


def main(data_dir: Path) -> None:
    """Trains, and draws every picture.

    Args:
        data_dir: folder of the data.
    """
    IMAGES.mkdir(parents=True, exist_ok=True)
    content = json.loads((HERE / "results" / "methods.json").read_text())
    write_figure(plot_map(content), IMAGES / "map_over_bits.png")
    write_figure(plot_codes(*train_codes(data_dir)), IMAGES / "code_space.png")
    with (
        tempfile.TemporaryDirectory() as scratch,
        serving(make_index(data_dir, Path(scratch))) as url,
    ):
        take_page(f"{url}#id=0", IMAGES / "serve.png")


if __name__ == "__main__":
    sys.exit(tyro.cli(main))

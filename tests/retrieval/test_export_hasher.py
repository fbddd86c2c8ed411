"""Hash functions as programs and folders, read by others: plain JAX, onnxruntime, parsers."""

import dataclasses
import json
import os
import re
import subprocess
import sys

import jax
import numpy as np
import pytest
import yaml
from PIL import Image
from safetensors.numpy import load_file

from jaxhash.data.input_form import InputForm
from jaxhash.models import Encoder, backbone_factory
from jaxhash.retrieval.export import model_card
from jaxhash.retrieval.export.export_hasher import HASHER_FORMATS, export_hasher
from jaxhash.retrieval.export.jax_program import export_program
from jaxhash.retrieval.hasher import Hasher
from jaxhash.runs.load import load
from jaxhash.utils.errors import UserError

BITS = 12
PREPROCESSING = {"mean": [127.5], "std": [127.5], "channels": None, "bgr": False, "size": None}
VECTORS = InputForm("vectors", (5,), "float32", -1.0, 1.0, 0.3, scale=3.5)
IMAGES = InputForm("images", (8, 8, 1), "uint8", 0.0, 255.0, 128.0, preprocessing=PREPROCESSING)

#: What a run's results.json says, as far as a model card repeats it.
RESULTS = {
    "map": 0.91,
    "distinct_codes": 1476,
    "conventions": {
        "map": "AP over |all| items",
        "distinct_codes": "number",
        "relevance": "a class",
    },
    "dataset": "digits: 'quoted'",
    "split": "cifar10-i",
    "split_sha256": "1dba",
    "items": {"train": 800, "validation": 0, "query": 200, "database": 797},
    "objective": "hashnet + 0.1 hswd",
    "seed": 0,
}


def make_hasher(form, backbone, **options):
    model = Encoder(backbone_factory(backbone), BITS, **options)
    example = np.zeros((1, *form.shape), form.dtype)
    variables = model.init(jax.random.key(0), example)
    bias = np.linspace(-0.2, 0.2, BITS, dtype=np.float32)
    variables["params"]["head"]["bias"] = bias  # not the same code for every input
    return Hasher(model, variables, form, {"dataset": "made up", "seed": 3})


@pytest.fixture(scope="module", params=["images", "vectors"])
def hasher(request):
    if request.param == "images":
        return make_hasher(IMAGES, "cnn")
    return make_hasher(VECTORS, "linear", unit_norm=True)  # as jaxhash fit makes one


@pytest.fixture(scope="module")
def inputs(hasher):
    rng = np.random.default_rng(0)
    if hasher.form.kind == "images":
        return rng.integers(0, 256, (64, 8, 8, 1)).astype(np.uint8)
    return rng.normal(size=(64, 5)).astype(np.float32)


def assert_same_bits(codes, hasher, inputs):
    """Bits of values that are not within rounding of zero are the same; the filling is 0."""
    values = hasher.encode_floats(inputs)
    sure = np.abs(values) > 1e-4 * np.sqrt(np.square(values).mean())
    assert sure.mean() > 0.99 and codes.dtype == np.uint8
    bits = np.unpackbits(codes, axis=1)
    np.testing.assert_array_equal(bits[:, :BITS][sure], (values >= 0)[sure])
    assert not bits[:, BITS:].any()


# jax

READER = """
import sys
for name in ("jaxhash", "flax", "optax", "orbax"):
    sys.modules[name] = None
import numpy as np
from jax import export
program = export.deserialize(bytearray(open("hash.jax", "rb").read()))
inputs = np.load("inputs.npy")
np.savez("codes.npz", **{str(n): program.call(inputs[:n]) for n in (1, 3, 64)})
print(*program.platforms)
"""


def test_plain_jax_runs_the_program(hasher, inputs, tmp_path):
    files = export_hasher(hasher, "jax", tmp_path / "hash.jax")
    assert [path.name for path in files] == ["hash.jax", "hash.jax.json"]
    np.save(tmp_path / "inputs.npy", inputs)
    environment = os.environ | {"PYTHONPATH": "", "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-c", READER]
    run = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    assert run.stdout.split() == ["cpu", "cuda", "tpu"]
    with np.load(tmp_path / "codes.npz") as codes:
        for count in (1, 3, 64):
            assert codes[str(count)].shape == (count, 2)
            assert_same_bits(codes[str(count)], hasher, inputs[:count])
    about = json.loads((tmp_path / "hash.jax.json").read_text())
    assert about["inputs"]["shape"] == ["batch", *hasher.form.shape]
    assert about["inputs"]["dtype"] == inputs.dtype.name
    assert (about["bits"], about["digest"]) == (BITS, hasher.digest)
    assert about["check_code"] == hasher.check_code and about["made_by"] == hasher.made_by


def test_zero_counts_as_plus_one(hasher):
    """An output of 0 for every input, with bits that do not fill their bytes."""
    head = jax.tree.map(np.zeros_like, hasher.variables["params"]["head"])
    variables = hasher.variables | {"params": hasher.variables["params"] | {"head": head}}
    program = export_program(dataclasses.replace(hasher, variables=variables))
    codes = program.call(np.repeat(hasher.check_input, 2, axis=0))
    assert codes.tolist() == [[0b11111111, 0b11110000]] * 2


# onnx


def test_onnxruntime_computes_the_codes(hasher, inputs, tmp_path):
    pytest.importorskip("jax2onnx", reason='needs the extra "onnx"')
    onnxruntime = pytest.importorskip("onnxruntime", reason='needs the extra "onnx"')
    before = hasher.encode(inputs)
    files = export_hasher(hasher, "onnx", tmp_path / "hash.onnx")
    assert sorted(tmp_path.iterdir()) == sorted(files)  # no second file with the weights
    session = onnxruntime.InferenceSession(tmp_path / "hash.onnx")
    for count in (1, 3, 64):
        (values,) = session.run(["codes"], {"inputs": inputs[:count]})
        np.testing.assert_allclose(values, hasher.encode_floats(inputs[:count]), atol=1e-5)
    assert (hasher.encode(inputs) == before).all()  # Flax, which jax2onnx patches, is as it was


@pytest.mark.slow
@pytest.mark.parametrize(
    ("backbone", "options"),
    [
        ("cnn", {"image_size": 12}),
        ("cifar-resnet20", {}),
        ("resnet18", {"image_size": 48}),
        ("squeezenet1-1", {"image_size": 50}),
        ("mobilenet-v2", {"image_size": 32}),
        ("efficientnet-lite0", {"image_size": 48}),
        ("convnext-tiny", {"image_size": 32}),
        ("alexnet", {}),
        ("vit-s16", {}),
    ],
)
def test_a_backbone_of_each_family_goes_to_onnx(backbone, options, tmp_path):
    """The export compares the values by itself."""
    pytest.importorskip("jax2onnx", reason='needs the extra "onnx"')
    model = Encoder(backbone_factory(backbone, **options), BITS)
    size = options.get("image_size", model.backbone().image_size) or 32
    form = InputForm("images", (size - 2 if options else size, size, 3), "uint8", 0.0, 255.0, 128.0)
    variables = jax.jit(model.init)(jax.random.key(0), np.zeros((1, *form.shape), np.uint8))
    hasher = Hasher(model, jax.device_get(variables), form)
    files = export_hasher(hasher, "onnx", tmp_path / "hash.onnx")
    assert files[0].stat().st_size > 100_000


def test_a_wrong_conversion_is_refused(hasher, tmp_path, monkeypatch):
    jax2onnx = pytest.importorskip("jax2onnx", reason='needs the extra "onnx"')
    convert = jax2onnx.to_onnx
    monkeypatch.setattr(
        jax2onnx,
        "to_onnx",
        lambda fn, *args, **options: convert(lambda x: fn(x) + 0.1, *args, **options),
    )
    with pytest.raises(UserError, match="differ|does not convert"):
        export_hasher(hasher, "onnx", tmp_path / "hash.onnx")
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize(
    ("to", "package"), [("jax", "flatbuffers"), ("onnx", "jax2onnx"), ("onnx", "onnxruntime")]
)
def test_a_missing_package_is_named(hasher, tmp_path, monkeypatch, to, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UserError, match=rf"pip install .*jaxhash\[{to}\]"):
        export_hasher(hasher, to, tmp_path / "hash")
    assert not [*tmp_path.iterdir()]


# Archives


@pytest.mark.parametrize("to", ["safetensors", "hf"])
def test_jaxhash_reads_an_archive_back(hasher, inputs, tmp_path, to):
    export_hasher(hasher, to, tmp_path / "saved", results=RESULTS)
    again = load(tmp_path / "saved")
    assert (again.digest, again.made_by) == (hasher.digest, hasher.made_by)
    np.testing.assert_array_equal(again.encode(inputs), hasher.encode(inputs))
    config = json.loads((tmp_path / "saved/config.json").read_text())
    assert (config["bits"], config["digest"]) == (BITS, hasher.digest)
    weights = load_file(tmp_path / "saved/model.safetensors")
    assert weights["params/head/bias"].shape == (BITS,)


def read_card(folder):
    empty, header, body = re.split(r"^---\n", (folder / "README.md").read_text(), flags=re.M)
    assert empty == ""
    return yaml.safe_load(header), body


def test_the_model_card_states_the_results_of_the_run(hasher, tmp_path):
    export_hasher(hasher, "hf", tmp_path / "hub", results=RESULTS)
    header, body = read_card(tmp_path / "hub")
    task = "image-feature-extraction" if hasher.form.kind == "images" else "feature-extraction"
    assert (header["library_name"], header["pipeline_tag"]) == ("jaxhash", task)
    assert "license" not in header  # the user's to say
    [entry] = header["model-index"][0]["results"]
    assert entry["dataset"]["name"] == "digits: 'quoted'"
    assert entry["dataset"]["args"] == {"split_sha256": "1dba"}
    metrics = {metric["type"]: metric["value"] for metric in entry["metrics"]}
    assert metrics == {"map": 0.91, "distinct_codes": 1476}
    assert "| map | 0.9100 | AP over \\|all\\| items |" in body
    assert "| distinct_codes | 1,476 | number |" in body
    for known in ("1dba", "cifar10-i", "hashnet + 0.1 hswd", hasher.digest, hasher.check_code):
        assert known in body


def test_the_model_card_of_an_archive_invents_nothing(hasher, tmp_path):
    export_hasher(hasher, "hf", tmp_path / "hub")
    header, body = read_card(tmp_path / "hub")
    assert header.keys() == {"library_name", "pipeline_tag", "tags"}
    assert "## Results" not in body and "made up" in body and "objective" not in body


def test_the_lines_of_the_model_card_load_it(hasher, inputs, tmp_path, monkeypatch):
    export_hasher(hasher, "hf", tmp_path / "hub")
    monkeypatch.chdir(tmp_path)
    Image.fromarray(inputs[0].reshape(8, -1) if inputs.ndim == 4 else np.zeros((8, 8), "u1")).save(
        "photo.png"
    )
    [lines] = re.findall(r"```python\n(.*?)```", read_card(tmp_path / "hub")[1], flags=re.S)
    lines = lines.replace("PATH OF THIS FOLDER", "hub").replace("photo.jpg", "photo.png")
    names = {"vectors": inputs}
    exec(lines, names)
    count = len(names["codes"])
    np.testing.assert_array_equal(names["codes"], hasher.encode(inputs[:count]))


def test_damaged_results_are_refused(hasher, tmp_path):
    for damage in ({"items": None}, {"conventions": 3}, {"map": 0.5, "split": None}):
        damaged = {name: value for name, value in (RESULTS | damage).items() if value is not None}
        with pytest.raises(UserError, match="damaged"):
            export_hasher(hasher, "hf", tmp_path / "hub", results=damaged)
        assert not [*tmp_path.iterdir()]


def test_the_card_describes_the_preparation_of_an_image():
    preparation = PREPROCESSING | {"mean": [1.5, 2, 3], "std": [1], "bgr": True}
    form = InputForm("images", (9, 8, 3), "uint8", 0.0, 1.0, 1.0, None, 7, preparation)
    text = model_card._input(Hasher(Encoder(backbone_factory("cnn"), 4), {}, form))
    for fact in ("9 x 8", "7 x 7", "blue, green and red", "1.5, 2, 3"):
        assert fact in text


# All of them


@pytest.mark.parametrize("to", HASHER_FORMATS)
@pytest.mark.parametrize("makes", [lambda path: path.mkdir(), lambda path: path.write_text("mine")])
def test_nothing_is_overwritten(hasher, tmp_path, to, makes):
    makes(tmp_path / "hash")
    with pytest.raises(UserError, match="exists"):
        export_hasher(hasher, to, tmp_path / "hash")
    assert [path.name for path in tmp_path.iterdir()] == ["hash"]


def test_a_folder_is_written_whole_or_not_at_all(hasher, tmp_path, monkeypatch):
    monkeypatch.setattr(
        "jaxhash.retrieval.export.export_hasher.write_model_card",
        lambda *args: (_ for _ in ()).throw(OSError(28, "full")),
    )
    with pytest.raises(OSError, match="full"):
        export_hasher(hasher, "hf", tmp_path / "hub")
    assert not [*tmp_path.iterdir()]

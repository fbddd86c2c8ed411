"""A hash function that was saved: the same bits when it is read, and every change is refused."""

import json
import shutil

import jax
import numpy as np
import pytest
from hash_functions import inputs_of, make_hasher
from safetensors.numpy import load_file, save_file

from jaxhash.models import BACKBONES, Encoder, backbone_factory
from jaxhash.retrieval.archive import load_archive
from jaxhash.retrieval.archive_format import encoder_from_json, encoder_to_json
from jaxhash.retrieval.hasher import Hasher
from jaxhash.utils.errors import UserError

VECTORS = ("mlp", "linear")


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    hasher = make_hasher(head_norm=True, image_size=10, made_by={"by": "a test", "n": 1})
    folder = tmp_path_factory.mktemp("archive") / "a hash function, ü"
    hasher.save(folder)
    return hasher, folder


@pytest.fixture
def copy(saved, tmp_path):
    return shutil.copytree(saved[1], tmp_path / "copy")


def edit(folder, **entries):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | entries))


def check_same(hasher, again):
    assert again.config == hasher.config
    inputs = inputs_of(hasher, 5)
    np.testing.assert_array_equal(again.encode(inputs), hasher.encode(inputs))
    jax.tree.map(np.testing.assert_array_equal, again.variables, hasher.variables)


def test_a_saved_hash_function_gives_the_same_bits(saved):
    hasher, folder = saved
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "model.safetensors"]
    check_same(hasher, load_archive(folder))
    config = json.loads((folder / "config.json").read_text())
    assert config == hasher.config
    assert (config["format"], config["bits"], config["bit_order"]) == ("jaxhash-hasher", 12, "big")
    assert config["encoder"]["backbone"] == "cnn" and config["made_by"] == {"by": "a test", "n": 1}


def test_weights_have_flat_names(saved):
    _, folder = saved
    weights = load_file(folder / "model.safetensors")
    assert {"params/head/kernel", "batch_stats/head_norm/mean"} < weights.keys()
    assert "params/backbone/stage0_0/conv/kernel" in weights


#: The smallest backbone of each family; `test_every_backbone_is_described` has all.
SMALLEST = ("cifar-resnet20", "resnet18", "mobilenet-v2", "efficientnet-lite0", "squeezenet1-1")


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("cnn", (32, 32, 3)),
        *((name, (40,)) for name in VECTORS),
        *(pytest.param(name, (48, 48, 3), marks=pytest.mark.slow) for name in SMALLEST),
    ],
)
def test_a_backbone_is_saved_and_read(name, shape, tmp_path):
    hasher = make_hasher(name, shape, 8)
    hasher.save(tmp_path / "archive")
    check_same(hasher, load_archive(tmp_path / "archive"))


@pytest.mark.parametrize("name", BACKBONES)
def test_every_backbone_is_described(name):
    factory = backbone_factory(name, preprocessing="imagenet", image_size=48)
    model = Encoder(factory, 8, unit_norm=True)
    again = encoder_from_json(json.loads(json.dumps(encoder_to_json(model))), 8)
    assert encoder_to_json(again) == encoder_to_json(model)
    assert again.backbone().preprocessing == model.backbone().preprocessing
    assert type(again.backbone()) is type(model.backbone()) and again.unit_norm


def test_options_of_a_backbone_are_kept(tmp_path):
    hasher = make_hasher(widths=(4, 6))
    hasher.save(tmp_path)
    check_same(hasher, load_archive(tmp_path))


@pytest.mark.parametrize("place", [0.02, 0.5, 0.999])
def test_a_changed_byte_of_the_weights_is_refused(copy, place):
    path = copy / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[int(len(content) * place)] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match="changed|damaged|another model"):
        load_archive(copy)


@pytest.mark.parametrize("cut", [0, 4, 1000])
def test_weights_that_are_cut_off_are_refused(copy, cut):
    path = copy / "model.safetensors"
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(UserError, match="damaged"):
        load_archive(copy)


def entry(config, *names):
    for name in names:
        config = config[name]
    return config


@pytest.mark.parametrize(
    ("names", "value"),
    [
        (("format",), "another"),
        (("bits",), 13),
        (("bits",), "12"),
        (("bits",), None),
        (("bit_order",), "little"),
        (("zero",), "-1"),
        (("digest",), "0" * 64),
        (("check_code",), "0000"),
        (("check_code",), "zz"),
        (("check_code",), None),
        (("encoder",), None),
        (("encoder", "backbone"), "mlp"),
        (("encoder", "backbone"), "unknown"),
        (("encoder", "head_norm"), False),
        (("encoder", "unit_norm"), True),
        (("encoder", "dtype"), "bfloat16"),
        (("encoder", "dtype"), "complex"),
        (("encoder", "image_size"), None),
        (("encoder", "options"), {"widths": [4, 4, 4]}),
        (("encoder", "options"), {"nonsense": 1}),
        (("encoder", "preprocessing", "mean"), [127.0]),
        (("encoder", "preprocessing"), {}),
        (("input", "shape"), [8, 9, 1]),
        (("input", "kind"), "vectors"),
        (("input",), {}),
    ],
)
def test_a_changed_configuration_is_refused(copy, names, value):
    path = copy / "config.json"
    config = json.loads(path.read_text())
    entry(config, *names[:-1])[names[-1]] = value
    path.write_text(json.dumps(config))
    with pytest.raises(UserError) as error:
        load_archive(copy)
    assert str(copy) in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_missing_file_is_named(copy, name):
    (copy / name).unlink()
    with pytest.raises(UserError, match=name):
        load_archive(copy)


def test_weights_of_another_model_are_refused(copy):
    weights = load_file(copy / "model.safetensors")
    save_file(weights | {"params/head/more": np.zeros(3, np.float32)}, copy / "model.safetensors")
    with pytest.raises(UserError, match="params/head/more"):
        load_archive(copy)
    del weights["params/head/bias"]
    save_file(weights, copy / "model.safetensors")
    with pytest.raises(UserError, match="params/head/bias"):
        load_archive(copy)


def test_a_machine_that_computes_otherwise_is_refused(saved, monkeypatch):
    hasher, folder = saved
    apply = Hasher.apply
    monkeypatch.setattr(Hasher, "apply", lambda self, *args: -apply(self, *args))
    with pytest.raises(UserError, match="this machine computes"):
        load_archive(folder)
    # A bit within rounding of zero may differ.
    (values,) = hasher.encode_floats(hasher.check_input)
    shift = 1e-3 * np.sqrt(np.square(values).mean())
    monkeypatch.setattr(Hasher, "apply", lambda self, *args: apply(self, *args) + shift)
    assert load_archive(folder).digest == hasher.digest


def test_saving_again_keeps_what_is_there(saved, copy, tmp_path):
    hasher, _ = saved
    before = (copy / "model.safetensors").read_bytes()
    hasher.save(copy)  # the same one
    assert (copy / "model.safetensors").read_bytes() == before
    with pytest.raises(UserError, match="another hash function"):
        make_hasher(seed=3).save(copy)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_text("{}")
    (tmp_path / "run" / "results.json").write_text("{}")
    with pytest.raises(UserError, match="results.json"):
        hasher.save(tmp_path / "run")
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="is a file"):
        hasher.save(tmp_path / "file")

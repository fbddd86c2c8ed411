"""Weights inside training checkpoints: the prefix is found, or selected by a key."""

import json
import struct
from collections import OrderedDict

import jax
import numpy as np
import pytest
from pytorch_files import saved, tensor
from test_weights import Tiny, tensors

from jaxhash.models import load_weights, read_weights
from jaxhash.models._tensor_paths import TensorPath, find_tensors
from jaxhash.models._weights import split_path_and_key
from jaxhash.utils.errors import UserError

MODEL = Tiny(classes=5)


def state_dict(seed=0, prefix=""):
    """Returns tensors by name, with a prefix, as passed to ``torch.save``."""
    arrays = tensors(seed)
    return OrderedDict(
        (f"{prefix}{name}", tensor(array, key=f"{seed}{name}")) for name, array in arrays.items()
    )


SCALAR = tensor(np.array(3), key="scalar")
ONE, TWO = state_dict(), state_dict(1)
FC = {name: tensor(array, key=name) for name, array in tensors().items() if name.startswith("fc.")}
BARE = {name: one for name, one in ONE.items() if not name.startswith("fc.")}


@pytest.fixture
def write(tmp_path):
    def run(content, name="weights.pth"):
        (tmp_path / name).write_bytes(content if isinstance(content, bytes) else saved(content))
        return tmp_path / name

    return run


@pytest.fixture
def refused(write):
    """Returns a function from a checkpoint to the error, with FILE for its path."""

    def run(content, key=None, model=MODEL, **options):
        path = write(content)
        with pytest.raises(UserError) as error:
            load_weights(path if key is None else f"{path}:{key}", model, **options)
        assert str(error.value).isprintable()
        return str(error.value).replace(str(path), "FILE")

    return run


def seed_of(variables):
    """Returns the seed of the state dict that these variables come from."""
    bias = variables["params"]["classifier"]["bias"]
    (seed,) = (seed for seed in range(3) if (tensors(seed)["fc.bias"] == bias).all())
    return seed


@pytest.mark.parametrize(
    "name", ["net", "model_ema", "state_dict_ema", "teacher", "anything", "a.b"]
)
@pytest.mark.parametrize(
    "before", ["", "model.", "net.", "backbone.", "_orig_mod.", "module.model."]
)
def test_wrappers_and_prefixes(write, name, before):
    path = write({name: state_dict(prefix=before), "acc": 91.0, "epoch": 9, "ema_decay": SCALAR})
    found = read_weights(path, MODEL)
    assert (seed_of(found.variables), found.file, found.prefix) == (0, path, f"{name}.{before}")
    assert read_weights(f"{path}:{name}", MODEL).prefix == f"{name}.{before}"
    whole = f"{path}:{name}.{before}"
    assert read_weights(whole, MODEL).prefix == read_weights(whole[:-1], MODEL).prefix


def test_dicts_in_dicts(write):
    averaged = {"n_averaged": SCALAR, **state_dict(prefix="module.")}
    optimizer = {"state": {0: {"momentum": FC["fc.bias"]}}, "param_groups": [{"params": [0]}]}
    for content, prefix in [
        (ONE, ""),
        (
            {"checkpoint": {"model": ONE, "args": {"lr": 0.1}}, "optimizer": optimizer},
            "checkpoint.model.",
        ),
        ({"model_ema": averaged}, "model_ema.module."),
        (averaged, "module."),
        ({"folds": [ONE]}, "folds.0."),
        ({7: ONE}, "7."),
        ([ONE, 0.5], "0."),
        (
            {
                "conv1": {"weight": ONE["conv1.weight"]},
                "layer": {"bn": dict((k[9:], v) for k, v in ONE.items() if k[:5] == "layer")},
                "fc": dict((k[3:], v) for k, v in FC.items()),
            },
            "",
        ),
    ]:
        found = read_weights(write(content), MODEL)
        assert (seed_of(found.variables), found.prefix) == (0, prefix)


def test_several_that_fit(refused, write):
    def names_both(message, *keys):
        return message.endswith("(`weights=FILE:KEY`): FILE:{}, FILE:{}".format(*keys))

    for names in [("model", "model_ema"), ("student", "teacher"), ("state_dict", "state_dict_ema")]:
        content = dict(zip(names, (ONE, TWO), strict=True)) | {"epoch": 3}
        assert names_both(refused(content), *names)
        for seed, name in enumerate(names):
            found = read_weights(f"{write(content)}:{name}", MODEL)
            assert (seed_of(found.variables), found.prefix) == (seed, f"{name}.")
    both = state_dict(prefix="student.") | state_dict(1, prefix="teacher.backbone.")
    message = refused({"state_dict": both})
    assert names_both(message, "state_dict.student", "state_dict.teacher.backbone")
    path = write({"state_dict": both})
    assert seed_of(load_weights(f"{path}:state_dict.teacher", MODEL)) == 1
    assert refused({"state_dict": both}, "state_dict").endswith("FILE:state_dict.teacher.backbone")


def test_an_empty_key_selects_the_top_level(refused, write):
    """``FILE:`` selects the top level of the file, and a key the top level under it."""
    content = {**ONE, "ema": TWO}
    assert refused(content).endswith("FILE:, FILE:ema")
    assert seed_of(load_weights(f"{write(content)}:", MODEL)) == 0
    nested = f"{write({'run': content})}:run"
    assert (
        read_weights(nested, MODEL).prefix == "run." and seed_of(load_weights(nested, MODEL)) == 0
    )


def test_other_tensors_in_the_same_dict_are_unexpected(refused, write):
    """A key for the backbone alone leaves out the head of the training."""
    head = {"head.weight": FC["fc.weight"], "n_averaged": SCALAR}
    content = {"teacher": {f"backbone.{name}": one for name, one in ONE.items()} | head}
    message = refused(content)
    parts = ("teacher.backbone.*", "unexpected teacher.head.weight;", "FILE:teacher.backbone ")
    assert all(part in message for part in parts)
    assert "FILE:teacher.backbone " in refused(content, "teacher")
    assert seed_of(load_weights(f"{write(content)}:teacher.backbone", MODEL)) == 0
    # A classifier by its published name is one, behind the prefix or not.
    content = {f"backbone.{name}": one for name, one in BARE.items()} | FC
    assert "missing" in refused(content)
    assert set(load_weights(write(content), Tiny(), leave_out="classifier")["params"]) == {
        "stage0_0"
    }


def test_missing_tensors_are_those_of_the_best_match(refused):
    content = {"model": state_dict(prefix="module."), "epoch": 1}
    del content["model"]["module.fc.bias"]
    message = refused(content)
    assert "model.module.*" in message and message.endswith("missing fc.bias")
    strange = refused({"model": {"a": SCALAR}})
    assert "missing conv1.weight" in strange and strange.endswith("unexpected model.a")


def test_unknown_keys(refused, tmp_path):
    content = {"student": ONE, "teacher": TWO}
    for key in ("techer", "teacher.nothing", "teach", "student.conv1.weight"):
        said = refused(content, key)
        assert f"under {key!r}" in said and said.endswith("student, teacher")
    assert "under module" in refused(state_dict(prefix="module."), "nothing")
    absent = f"{tmp_path / 'absent.pth'}:teacher"
    with pytest.raises(UserError, match=f"^{absent}: "):
        load_weights(absent, MODEL)


def test_names_with_colons(write, monkeypatch, tmp_path):
    content = {"student": ONE, "teacher": TWO}
    for name in ("a:b.pth", r"C:\runs\net.pth", "teacher:teacher", "a:b:c"):
        path = write(content, name)
        assert split_path_and_key(path) == (path, None)
        assert split_path_and_key(f"{path}:teacher") == (path, "teacher")
        assert seed_of(load_weights(f"{path}:teacher", MODEL)) == 1
    write(ONE, "a")
    assert split_path_and_key(tmp_path / "a:b.pth") == (
        tmp_path / "a:b.pth",
        None,
    )  # is there itself
    assert split_path_and_key(tmp_path / "a:b:c:teacher") == (tmp_path / "a:b:c", "teacher")
    assert split_path_and_key(tmp_path / "a:student") == (tmp_path / "a", "student")


def test_other_formats(tmp_path):
    """Prefixes and keys work for safetensors, NumPy and Keras."""
    h5py = pytest.importorskip("h5py", reason="h5py writes one of the files")
    first, second = tensors(), tensors(1)
    both = {f"net.{name}": array for name, array in first.items()}
    both |= {f"ema/{name}": array for name, array in second.items()}
    np.savez(tmp_path / "both.npz", **both)
    with h5py.File(tmp_path / "both.h5", "w") as file:
        for name, array in both.items():
            file[name] = array
    header, content = {}, b""
    for name, array in both.items():
        kind = {"f": "F32", "i": "I64"}[array.dtype.kind]
        offsets = [len(content), len(content) + array.nbytes]
        header[name] = {"dtype": kind, "shape": array.shape, "data_offsets": offsets}
        content += array.tobytes()
    text = json.dumps(header).encode()
    (tmp_path / "both.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + content)
    for ending in ("npz", "h5", "safetensors"):
        path = tmp_path / f"both.{ending}"
        with pytest.raises(UserError, match="more than once"):
            load_weights(path, MODEL)
        assert seed_of(load_weights(f"{path}:net", MODEL)) == 0
        found = read_weights(f"{path}:ema", MODEL)
        assert (seed_of(found.variables), found.prefix) == (1, "ema.")


def test_deep_and_cyclic_checkpoints():
    circle = {"a": 1.5}
    circle["again"] = circle
    assert TensorPath("", "a") in find_tensors(circle, float)
    deep = {"a": 1.5}
    for _ in range(20):
        deep = {"b": deep}
    assert [tensor.dotted for tensor in find_tensors(deep, float)] == ["b." * 20 + "a"]


def test_published_checkpoint_in_wrappers(write, shared_data):
    """The published names have another prefix."""
    from pytorch_files import read_tensors

    from jaxhash.models import cifar_resnet20

    path = shared_data / "weights" / "resnet20-12fca82f.th"
    arrays = {
        name.removeprefix("state_dict.module."): array
        for name, array in read_tensors(path).items()
        if name != "best_prec1"
    }
    expected = load_weights(path, cifar_resnet20(), leave_out="classifier")
    content = {
        "net": {f"backbone.{name}": tensor(array, key=name) for name, array in arrays.items()}
    }
    found = load_weights(write(content), cifar_resnet20(), leave_out="classifier")
    jax.tree.map(np.testing.assert_array_equal, found, expected)

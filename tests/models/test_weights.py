"""Every tensor of a file matches a leaf of the model, or is reported."""

import json
import struct

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxhash.models import CNN, MLP, cifar_resnet20, load_weights
from jaxhash.models._weight_names import (
    SourceTensor,
    identity,
    merge,
    pytorch_batch_norm,
    pytorch_convolution,
    pytorch_dense,
)
from jaxhash.utils.errors import UserError


class Tiny(CNN, kw_only=True):
    """A normalized convolution from 3 to 4 channels on 8x8, and a classifier."""

    widths: tuple[int, ...] = (4,)
    image_size = 8

    def weight_names(self):
        pytorch = merge(
            pytorch_convolution("stage0_0/conv", "conv1"),
            pytorch_batch_norm("stage0_0/norm", "layer.bn"),
            pytorch_dense("classifier", "fc"),
        )
        keras = {
            target: SourceTensor(target.replace("stage0_0/", "layer/"), identity)
            for target in pytorch
        }
        return {"pytorch": pytorch, "keras": keras}


def tensors(seed=0):
    """Returns the tensors that PyTorch would write, with 5 classes."""
    shapes = {
        "conv1.weight": (4, 3, 3, 3),
        "layer.bn.weight": (4,),
        "layer.bn.bias": (4,),
        "layer.bn.running_mean": (4,),
        "layer.bn.running_var": (4,),
        "fc.weight": (5, 64),
        "fc.bias": (5,),
    }
    rng = np.random.default_rng(seed)
    arrays = {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    return arrays | {"layer.bn.num_batches_tracked": np.array(7)}


@pytest.fixture
def write(tmp_path):
    """Writes a file of these tensors, and returns its path."""

    def run(arrays):
        path = tmp_path / "weights"
        with path.open("wb") as file:
            np.savez(file, **arrays)
        return path

    return run


@pytest.fixture
def refused(write):
    """Returns a function from tensors to the error, without file and model."""

    def run(arrays, model=None, **options):
        path = write(arrays)
        with pytest.raises(UserError) as error:
            load_weights(path, model or Tiny(classes=5), **options)
        said = str(error.value)
        assert said.startswith(f"{path}") and said.isprintable()
        return said.removeprefix(f"{path}").removeprefix(" does not fit Tiny: ")

    return run


def test_every_leaf_has_its_tensor(write):
    model, arrays = Tiny(classes=5), tensors()
    found = load_weights(write(arrays), model)
    expected = {
        "params": {
            "stage0_0": {
                "conv": {"kernel": arrays["conv1.weight"].transpose(2, 3, 1, 0)},
                "norm": {"scale": arrays["layer.bn.weight"], "bias": arrays["layer.bn.bias"]},
            },
            "classifier": {"kernel": arrays["fc.weight"].T, "bias": arrays["fc.bias"]},
        },
        "batch_stats": {
            "stage0_0": {
                "norm": {
                    "mean": arrays["layer.bn.running_mean"],
                    "var": arrays["layer.bn.running_var"],
                }
            }
        },
    }
    jax.tree.map(np.testing.assert_array_equal, found, expected)
    made = jax.eval_shape(model.init, jax.random.key(0), model.example())
    same_kind = jax.tree.map(lambda a, b: (a.shape, a.dtype) == (b.shape, b.dtype), found, made)
    assert all(jax.tree.leaves(same_kind))
    assert all(leaf.flags.c_contiguous and leaf.flags.writeable for leaf in jax.tree.leaves(found))


def test_the_names_determine_the_convention(write):
    shapes = {"params/layer/conv/kernel": (3, 3, 3, 4), "params/classifier/kernel": (64, 5)}
    shapes |= {f"params/layer/norm/{name}": (4,) for name in ("scale", "bias")}
    shapes |= {f"batch_stats/layer/norm/{name}": (4,) for name in ("mean", "var")}
    rng = np.random.default_rng(0)
    arrays = {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    found = load_weights(write(arrays), Tiny(), leave_out=["params/classifier"])
    norm = {name: arrays[f"params/layer/norm/{name}"] for name in ("scale", "bias")}
    conv = {"kernel": arrays["params/layer/conv/kernel"]}
    stats = {name: arrays[f"batch_stats/layer/norm/{name}"] for name in ("mean", "var")}
    expected = {
        "params": {"stage0_0": {"conv": conv, "norm": norm}},
        "batch_stats": {"stage0_0": {"norm": stats}},
    }
    jax.tree.map(np.testing.assert_array_equal, found, expected)


def test_a_model_without_batch_normalization_has_no_statistics(write):
    class Linear(MLP):
        image_size = 2

        def weight_names(self):
            return {"pytorch": pytorch_dense("classifier", "fc")}

    arrays = {"fc.weight": np.ones((5, 12)), "fc.bias": np.ones(5)}
    found = load_weights(write(arrays), Linear(widths=(), classes=5))
    assert {name: set(leaves) for name, leaves in found.items()} == {"params": {"classifier"}}


@pytest.mark.parametrize("dtype", [np.float16, np.float64, jnp.bfloat16])
def test_dtypes(write, dtype):
    """Parameters get the dtype of the model, and running statistics float32."""
    arrays = {
        name: array.astype(dtype) if array.ndim else array for name, array in tensors().items()
    }
    path = write(arrays)
    for wanted in (jnp.float32, jnp.bfloat16):
        found = load_weights(path, Tiny(classes=5, param_dtype=wanted))
        assert {leaf.dtype for leaf in jax.tree.leaves(found["params"])} == {jnp.dtype(wanted)}
        assert {leaf.dtype for leaf in jax.tree.leaves(found["batch_stats"])} == {
            np.dtype(np.float32)
        }
        np.testing.assert_array_equal(
            found["params"]["classifier"]["kernel"], arrays["fc.weight"].T.astype(wanted)
        )


def test_missing(refused):
    arrays = tensors()
    del arrays["fc.bias"]
    assert refused(arrays) == "missing fc.bias"
    del arrays["conv1.weight"]
    assert refused(arrays) == "missing conv1.weight, fc.bias"


def test_unexpected(refused):
    arrays = tensors() | {"fc.scale": np.ones(1), "bn.my_num_batches_tracked": np.array(1)}
    assert refused(arrays) == "unexpected fc.scale, bn.my_num_batches_tracked"


def test_names_cannot_write_to_the_terminal(tmp_path):
    header = {"a\nb\x1b[2J": {"dtype": "F32", "shape": [], "data_offsets": [0, 4]}}
    text = json.dumps(header).encode()
    path = tmp_path / "weights"
    path.write_bytes(struct.pack("<Q", len(text)) + text + bytes(4))
    with pytest.raises(UserError, match=r"unexpected 'a\\nb\\x1b\[2J'$"):
        load_weights(path, Tiny())


def test_wrongly_shaped(refused):
    arrays = tensors()
    arrays["conv1.weight"] = np.ones((4, 1, 3, 3), np.float32)
    assert refused(arrays) == "wrongly shaped conv1.weight (4x1x3x3 becomes 3x3x1x4, not 3x3x3x4)"
    arrays = tensors()
    arrays["conv1.weight"] = np.ones((4, 27), np.float32)
    assert refused(arrays) == "wrongly shaped conv1.weight (4x27, not 3x3x3x4)"
    arrays = tensors()
    arrays["fc.bias"] = np.float32(1)
    assert refused(arrays) == "wrongly shaped fc.bias (a scalar becomes a scalar, not 5)"
    said = "fc.weight (5x64 becomes 64x5, not 64x10), fc.bias (5 becomes 5, not 10)"
    assert refused(tensors(), Tiny(classes=10)) == f"wrongly shaped {said}"


def test_values_that_are_not_finite_numbers(refused):
    for value in (np.nan, np.inf, -np.inf, 1e300):
        arrays = tensors()
        arrays["fc.bias"] = np.array([1, 2, value, 4, 5])
        assert refused(arrays) == "no finite real numbers fc.bias (not finite in float32)"
    arrays = tensors()
    arrays["fc.bias"] = np.array([1, 2, 70_000, 4, 5], np.float32)
    assert refused(arrays, Tiny(classes=5, param_dtype=jnp.float16)) == (
        "no finite real numbers fc.bias (not finite in float16)"
    )
    for dtype in (np.int8, np.int64, np.bool_):
        arrays["fc.bias"] = np.ones(5, dtype)
        assert refused(arrays) == f"no finite real numbers fc.bias ({np.dtype(dtype)})"


def test_all_problems_in_one_line(refused):
    arrays = tensors()
    del arrays["layer.bn.bias"]
    arrays["fc.weight"] = np.ones((5, 63), np.float32)
    arrays["layer.bn.weight"] = np.full(4, np.nan, np.float32)
    arrays["layer.extra"] = np.ones(3)
    assert refused(arrays) == (
        "missing layer.bn.bias; unexpected layer.extra; "
        "wrongly shaped fc.weight (5x63 becomes 63x5, not 64x5); "
        "no finite real numbers layer.bn.weight (not finite in float32)"
    )


def test_long_lists_are_shortened(refused):
    extra = {f"extra.{i}": np.ones(1) for i in range(20)}
    listed = ", ".join(f"extra.{i}" for i in range(8))
    assert refused(tensors() | extra) == f"unexpected {listed} and 12 more"
    eight = {f"extra.{i}": np.ones(1) for i in range(8)}
    assert refused(tensors() | eight) == f"unexpected {listed}"


def test_leaving_out(write, refused):
    path = write(tensors())
    for names in (["fc"], ("fc.weight", "fc.bias"), ["fc", "layer.bn.num_batches_tracked"]):
        assert set(load_weights(path, Tiny(), leave_out=names)["params"]) == {"stage0_0"}
    arrays = tensors() | {"layer.fc.bias": np.ones(1), "fca": np.ones(1)}
    assert refused(arrays, Tiny(), leave_out=["fc"]) == "unexpected layer.fc.bias, fca"
    assert refused(tensors(), leave_out=["layer"]) == (
        "missing layer.bn.weight, layer.bn.bias, layer.bn.running_mean, layer.bn.running_var"
    )


def test_left_out_names_must_exist(write, refused):
    start = ": leave_out names"
    assert refused(tensors(), Tiny(), leave_out=["fc", "fc.wieght"]) == (
        f"{start} 'fc.wieght', which the file does not hold; did you mean 'fc.weight'?"
    )
    for name in ("f", "weight", "fc.", ""):
        said = refused(tensors(), Tiny(), leave_out=[name])
        assert said.startswith(f"{start} {name!r}, which the file does not hold")
    assert refused(tensors(), leave_out=["zzz"]) == f"{start} 'zzz', which the file does not hold"
    with pytest.raises(TypeError, match="sequence of names or \"classifier\", got 'fc'"):
        load_weights(write(tensors()), Tiny(), leave_out="fc")


def test_the_classifier_is_left_out_by_any_name(write, refused):
    hint = '; leave_out="classifier" leaves its classifier out'
    assert refused(tensors(), Tiny()) == f"unexpected fc.weight, fc.bias{hint}"
    assert set(load_weights(write(tensors()), Tiny(), leave_out="classifier")["params"]) == {
        "stage0_0"
    }
    arrays = tensors() | {"more": np.ones(1)}
    assert refused(arrays, Tiny()) == f"unexpected fc.weight, fc.bias, more{hint}"
    assert refused(arrays, Tiny(), leave_out="classifier") == "unexpected more"
    del arrays["fc.weight"]
    assert refused(arrays, Tiny()) == f"unexpected fc.bias, more{hint}"
    del arrays["fc.bias"], arrays["more"]  # a file without one is as good
    assert set(load_weights(write(arrays), Tiny(), leave_out="classifier")["params"]) == {
        "stage0_0"
    }
    whole = refused(tensors(), leave_out="classifier")
    assert whole == "missing fc.weight, fc.bias"  # of a model that has it


def test_shapes_are_those_of_the_inputs(write, refused):
    arrays = tensors()
    said = refused(arrays, inputs=np.zeros((1, 4, 4, 3), np.uint8))
    assert said.startswith("wrongly shaped fc.weight")
    load_weights(write(arrays), Tiny(classes=5), inputs=np.zeros((7, 8, 8, 3), np.uint8))


def test_a_tensor_that_is_part_of_two_leaves(write, refused):
    class Fused(Tiny):
        def weight_names(self):
            return {
                "pytorch": super().weight_names()["pytorch"]
                | {
                    "params/classifier/kernel": SourceTensor("fused", lambda array: array[:64]),
                    "params/classifier/bias": SourceTensor("fused", lambda array: array[64]),
                }
            }

    arrays = tensors()
    del arrays["fc.weight"], arrays["fc.bias"]
    fused = np.arange(65 * 5, dtype=np.float32).reshape(65, 5)
    found = load_weights(write(arrays | {"fused": fused}), Fused(classes=5))
    np.testing.assert_array_equal(found["params"]["classifier"]["kernel"], fused[:64])
    np.testing.assert_array_equal(found["params"]["classifier"]["bias"], fused[64])
    assert refused(arrays, Fused(classes=5)).endswith("Fused: missing fused")
    said = refused(arrays | {"fused": np.full((65, 5), np.nan)}, Fused(classes=5))
    assert said.endswith("no finite real numbers fused (not finite in float32)")


def test_a_map_must_name_the_leaves_of_the_model(write):
    class Wrong(Tiny):
        change: tuple[str, str] = ("", "")

        def weight_names(self):
            names = super().weight_names()["pytorch"]
            target, source = self.change
            return {"pytorch": {leaf.replace(target, source): to for leaf, to in names.items()}}

    path = write(tensors())
    with pytest.raises(ValueError, match="weight_names lacks params/stage0_0/conv/kernel$"):
        load_weights(path, Wrong(classes=5, change=("conv", "convolution")))
    more = {"params/more/bias": SourceTensor("fc.bias", identity)}

    class More(Tiny):
        def weight_names(self):
            return {"pytorch": super().weight_names()["pytorch"] | more}

    for classes in (None, 5):
        with pytest.raises(ValueError, match="More has no params/more/bias$"):
            load_weights(path, More(classes=classes))
    more["params/classifier/scale"] = more.pop("params/more/bias")
    with pytest.raises(ValueError, match="More has no params/classifier/scale$"):
        load_weights(path, More(classes=5))


def test_a_model_without_published_weights(write):
    with pytest.raises(UserError, match="^no published weights are known for MLP$"):
        load_weights(write(tensors()), MLP())


def test_published_weights(shared_data):
    path = shared_data / "weights" / "resnet20-12fca82f.th"
    whole = load_weights(path, cifar_resnet20(classes=10))
    assert sum(leaf.size for leaf in jax.tree.leaves(whole["params"])) == 269_722
    return_features = load_weights(path, cifar_resnet20(), leave_out=("linear",))
    assert sum(leaf.size for leaf in jax.tree.leaves(return_features["params"])) == 269_722 - 650
    with pytest.raises(UserError, match="unexpected layer1.3.conv1.weight, .* and 172 more$"):
        load_weights(path.with_name("resnet56-4bfd9763.th"), cifar_resnet20(classes=10))

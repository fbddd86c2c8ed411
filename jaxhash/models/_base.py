"""Base classes of the backbones: stages, freezing, precision, and an optional classifier."""

import inspect
import re
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, DTypeLike, Float, Int, Shaped

from jaxhash.models._norm import BatchNorm
from jaxhash.models._preprocessing import CENTRED, Preprocessing
from jaxhash.models._weight_names import WeightNames
from jaxhash.ops.collectives import row_indices


class Layers(nn.Module, kw_only=True):
    """A module that creates its layers with common precision and axis settings.

    Attributes:
        dtype: dtype of the computation.
        param_dtype: dtype of the parameters.
        axis_name: mapped axis over which the batch is sharded, or None.
        freeze_norm: whether batch normalization uses the running statistics in training too.
    """

    dtype: DTypeLike = jnp.float32
    param_dtype: DTypeLike = jnp.float32
    axis_name: str | None = None
    freeze_norm: bool = False

    def conv(
        self,
        features: int,
        kernel: int,
        *,
        stride: int = 1,
        padding: int | str = 0,
        groups: int = 1,
        bias: bool = False,
        name: str,
    ) -> nn.Conv:
        """Creates a square convolution, padded by pixels per side or by a padding mode of XLA."""
        return nn.Conv(
            features,
            (kernel, kernel),
            strides=(stride, stride),
            padding=padding,
            feature_group_count=groups,
            use_bias=bias,
            dtype=self.dtype,
            param_dtype=self.param_dtype,
            name=name,
        )

    def dense(self, features: int, *, bias: bool = True, name: str) -> nn.Dense:
        """Creates a linear layer."""
        return nn.Dense(
            features,
            use_bias=bias,
            dtype=self.dtype,
            param_dtype=self.param_dtype,
            name=name,
        )

    def batch_norm(self, *, epsilon: float = 1e-5, name: str) -> BatchNorm:
        """Creates a batch normalization over the global batch."""
        return BatchNorm(
            axis_name=self.axis_name,
            frozen=self.freeze_norm,
            epsilon=epsilon,
            dtype=self.dtype,
            param_dtype=self.param_dtype,
            name=name,
        )

    def layer_norm(self, *, epsilon: float = 1e-6, name: str) -> nn.LayerNorm:
        """Creates a layer normalization with statistics in float32."""
        return nn.LayerNorm(
            epsilon=epsilon, dtype=self.dtype, param_dtype=self.param_dtype, name=name
        )


class Block(Layers, kw_only=True):
    """A part of a backbone: ``__call__(x, train, mask)`` from activations to activations.

    The arguments are positional, as `flax.linen.remat` requires.

    Attributes:
        rows: [n], number of each row, which determines its random draws; the position in the global
            batch by default.
    """

    rows: Int[Array | np.ndarray, " n"] | None = None

    def dropout(self, x: Float[Array, "n ..."], rate: float, train: bool) -> Float[Array, "n ..."]:
        """Zeroes a share of the activations in training, and scales the others up.

        The draw of a row depends only on the key and its number in ``rows``, not on the devices or
        micro-batches that hold the batch.
        """
        if not train or rate == 0.0:
            return x
        rows = self.rows
        if rows is None:
            rows = row_indices(x.shape[0], None if self.is_initializing() else self.axis_name)
        key = self.make_rng("dropout")
        keep = jax.vmap(
            lambda row: jax.random.bernoulli(jax.random.fold_in(key, row), 1.0 - rate, x.shape[1:])
        )(rows)
        return jnp.where(keep, x / (1.0 - rate), 0).astype(x.dtype)


class Backbone(Layers, kw_only=True):
    """A network from inputs to features, made of stages of blocks.

    Block j of stage i has the name ``stage{i}_{j}`` in the parameters. A subclass defines the
    blocks of its stages (`stages`), how the result of the last stage becomes a vector (`readout`),
    and the names of its weights in published files (`weight_names`).

    Attributes:
        classes: number of classes of the published classifier, which then returns logits; None for
            features.
        preprocessing: normalization of images of bytes; floating inputs are not changed.
        freeze_stages: number of first stages that run as in evaluation and receive no gradient.
        remat: whether to keep only the inputs of the blocks and recompute the rest in the backward
            pass (`jax.checkpoint`): less memory, for about a third more time.
        image_size: height and width that the network was published for.
    """

    classes: int | None = None
    preprocessing: Preprocessing = CENTRED
    freeze_stages: int = 0
    remat: bool = False

    image_size: ClassVar[int] = 224

    def stages(self) -> Iterable[Sequence[partial[Block]]]:
        """Yields the block factories of each stage, which take `Layers` attributes and a name."""
        raise NotImplementedError

    def weight_names(self) -> dict[str, WeightNames]:
        """Returns the tensor of each leaf, per naming convention such as ``"pytorch"``.

        The classifier is always included; see `load_weights`.
        """
        return {}

    def example(self) -> Shaped[np.ndarray, "1 height width 3"]:
        """Returns a black image of the size that the network was published for."""
        return np.zeros((1, self.image_size, self.image_size, 3), np.uint8)

    @nn.compact
    def __call__(
        self,
        inputs: Shaped[Array | np.ndarray, "n ..."],
        *,
        train: bool = False,
        mask: Bool[Array | np.ndarray, " n"] | None = None,
        rows: Int[Array | np.ndarray, " n"] | None = None,
    ) -> Float[Array, "n features"]:
        """Computes features [n, features], or logits [n, classes], in float32.

        Args:
            inputs: images of bytes [n, height, width, channels], or floating inputs.
            train: whether batch normalization and dropout run in training mode.
            mask: [n], False for rows of padding, which do not affect the other rows.
            rows: [n], number of each row, which determines its dropout; see `Block`.

        Raises:
            ValueError: if images have a wrong number of channels, or are too small.
        """
        x = self.preprocessing(inputs).astype(self.dtype)
        mask = None if mask is None else jnp.asarray(mask)
        layers = {
            "dtype": self.dtype,
            "param_dtype": self.param_dtype,
            "axis_name": self.axis_name,
            "freeze_norm": self.freeze_norm,
            "rows": rows,
        }
        for i, blocks in enumerate(self.stages()):
            trained = train and i >= self.freeze_stages
            for j, block in enumerate(blocks):
                if self.remat:
                    block = partial(
                        nn.remat(block.func, static_argnums=(2,)), *block.args, **block.keywords
                    )
                x = block(**layers, name=f"stage{i}_{j}")(x, trained, mask)
                if 0 in x.shape[1:]:
                    raise ValueError(
                        f"inputs of shape {jnp.shape(inputs)[1:]} are too small: nothing is left "
                        f"of them after stage {i}"
                    )
            if i + 1 == self.freeze_stages:
                x = lax.stop_gradient(x)
        return self.readout(x).astype(jnp.float32)

    def readout(self, x: Float[Array, "n ..."]) -> Float[Array, "n features"]:
        """Computes features, which are means over positions, or logits from the last stage."""
        features = x.mean(axis=tuple(range(1, x.ndim - 1)))
        return features if self.classes is None else self.classify(features)

    def classify(self, features: Float[Array, "n features"]) -> Float[Array, "n classes"]:
        """Computes logits with a linear classifier."""
        return self.dense(self.classes, name="classifier")(features)


def max_pool(
    x: Float[Array, "n h w c"],
    window: int,
    stride: int,
    padding: Sequence[tuple[int, int]] = ((0, 0), (0, 0)),
) -> Float[Array, "n h2 w2 c"]:
    """Returns the largest values of square windows.

    The padding is an operation of its own, which XLA merges: jax2onnx drops that of `nn.max_pool`.

    Args:
        x: images.
        window: height and width of a window.
        stride: distance of two windows.
        padding: rows above and below, and columns left and right, that count as minus infinity.
    """
    if any(sum(pair) for pair in padding):
        x = jnp.pad(x, ((0, 0), *padding, (0, 0)), constant_values=-jnp.inf)
    return nn.max_pool(x, window_shape=(window, window), strides=(stride, stride))


def rows_argument(module: nn.Module, rows: Int[Any, " n"] | None) -> dict[str, Int[Any, " n"]]:
    """Returns the keyword argument ``rows`` for a module, or none if it does not take it.

    Example:
        >>> rows_argument(Backbone(), np.arange(2)), rows_argument(nn.Dense(3), np.arange(2))
        ({'rows': array([0, 1])}, {})
    """
    accepted = rows is not None and "rows" in inspect.signature(module.__call__).parameters
    return {"rows": rows} if accepted else {}


def stage_index(name: str) -> int | None:
    """Returns the stage of a block from its name; None for other names.

    Example:
        >>> stage_index("stage3_0"), stage_index("classifier")
        (3, None)
    """
    found = re.fullmatch(r"stage(\d+)_\d+", name)
    return int(found[1]) if found else None

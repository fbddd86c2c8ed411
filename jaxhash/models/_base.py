"""What all backbones have in common: stages, freezing, precision, and a classifier to put on top."""

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

from jaxhash.models._names import Names
from jaxhash.models._norm import BatchNorm
from jaxhash.models._preprocessing import CENTRED, Preprocessing
from jaxhash.ops.collectives import row_indices


class Layers(nn.Module, kw_only=True):
    """A module that makes its layers in one precision, on one mapped axis.

    Attributes:
        dtype: dtype of the computation.
        param_dtype: dtype of the parameters.
        axis_name: mapped axis that the batch is spread over, or None.
        freeze_norm: batch normalization by the running statistics, in training too.
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
        """A square convolution, padded by a number of pixels on each side or by a rule of XLA's."""
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
        """A linear layer."""
        return nn.Dense(
            features,
            use_bias=bias,
            dtype=self.dtype,
            param_dtype=self.param_dtype,
            name=name,
        )

    def batch_norm(self, *, epsilon: float = 1e-5, name: str) -> BatchNorm:
        """Batch normalization over the global batch."""
        return BatchNorm(
            axis_name=self.axis_name,
            frozen=self.freeze_norm,
            epsilon=epsilon,
            dtype=self.dtype,
            param_dtype=self.param_dtype,
            name=name,
        )

    def layer_norm(self, *, epsilon: float = 1e-6, name: str) -> nn.LayerNorm:
        """Layer normalization, its statistics in float32."""
        return nn.LayerNorm(
            epsilon=epsilon, dtype=self.dtype, param_dtype=self.param_dtype, name=name
        )


class Block(Layers, kw_only=True):
    """A part of a backbone: ``__call__(x, train, mask)`` from activations to activations.

    The arguments are positional, as `flax.linen.remat` wants them.

    Attributes:
        rows: a number for each row, on which what is drawn for it depends; its place in the global
            batch by default.
    """

    rows: Int[Array | np.ndarray, " n"] | None = None

    def dropout(self, x: Float[Array, "n ..."], rate: float, train: bool) -> Float[Array, "n ..."]:
        """Zero a share of the activations in training, and scale up the others.

        A row's draw depends on the key and on its number in ``rows`` alone, so not on the devices
        or the chunks that hold the batch.
        """
        if not train or rate == 0.0:
            return x
        rows = self.rows
        if rows is None:
            rows = row_indices(len(x), None if self.is_initializing() else self.axis_name)
        key = self.make_rng("dropout")
        keep = jax.vmap(
            lambda row: jax.random.bernoulli(jax.random.fold_in(key, row), 1.0 - rate, x.shape[1:])
        )(rows)
        return jnp.where(keep, x / (1.0 - rate), 0).astype(x.dtype)


class Backbone(Layers, kw_only=True):
    """A network from inputs to features, made of stages, each of them of blocks.

    Block j of stage i is called ``stage{i}_{j}`` in the parameters. A subclass says of which blocks
    its stages are made (`stages`), how their result becomes a vector (`readout`), and where its
    weights stand in published files (`weight_names`).

    Attributes:
        classes: None for features; else the published classifier follows, and gives logits.
        preprocessing: what is done to images of bytes; floating inputs stay as they are.
        freeze_stages: this many first stages run as in evaluation, and no gradient enters them.
        remat: keep the blocks' inputs only, and compute the rest again in the backward pass
            (`jax.checkpoint`): less memory, for about a third more time.
        image_size: height and width that the network was published for.
    """

    classes: int | None = None
    preprocessing: Preprocessing = CENTRED
    freeze_stages: int = 0
    remat: bool = False

    image_size: ClassVar[int] = 224

    def stages(self) -> Iterable[Sequence[partial[Block]]]:
        """What makes the blocks of each stage, given the attributes of `Layers` and a name."""
        raise NotImplementedError

    def weight_names(self) -> dict[str, Names]:
        """By convention, such as ``"pytorch"``, where each leaf stands in a file; see `load_weights`.

        The classifier is among them whether this module has one or not.
        """
        return {}

    def example(self) -> Shaped[np.ndarray, "1 height width 3"]:
        """A black image of the size that the network was published for."""
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
        """Features [n, features], or logits [n, classes], in float32.

        Args:
            inputs: images of bytes, or inputs that are prepared already.
            train: whether batch normalization and dropout are those of training.
            mask: False where a row is padding; it has no say in the others.
            rows: a number for each row, on which its dropout depends; see `Block`.

        Raises:
            ValueError: if images have another number of channels, or are too small.
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
                        f"inputs of shape {jnp.shape(inputs)[1:]} are too small: nothing is left of "
                        f"them after stage {i}"
                    )
            if i + 1 == self.freeze_stages:
                x = lax.stop_gradient(x)
        return self.readout(x).astype(jnp.float32)

    def readout(self, x: Float[Array, "n ..."]) -> Float[Array, "n features"]:
        """Features or logits from what the last stage makes: means over positions, then a matrix."""
        features = x.mean(axis=tuple(range(1, x.ndim - 1)))
        return features if self.classes is None else self.classify(features)

    def classify(self, features: Float[Array, "n features"]) -> Float[Array, "n classes"]:
        """Logits of a linear classifier."""
        return self.dense(self.classes, name="classifier")(features)


def rows_argument(module: nn.Module, rows: Int[Any, " n"] | None) -> dict[str, Int[Any, " n"]]:
    """The argument ``rows`` of a call of the module, if it takes one and there is something to say.

    Example:
        >>> rows_argument(Backbone(), np.arange(2)), rows_argument(nn.Dense(3), np.arange(2))
        ({'rows': array([0, 1])}, {})
    """
    taken = rows is not None and "rows" in inspect.signature(module.__call__).parameters
    return {"rows": rows} if taken else {}


def stage_index(name: str) -> int | None:
    """The stage that a block of this name belongs to; None if it is none of a backbone's.

    Example:
        >>> stage_index("stage3_0"), stage_index("classifier")
        (3, None)
    """
    found = re.fullmatch(r"stage(\d+)_\d+", name)
    return int(found[1]) if found else None

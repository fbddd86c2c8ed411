"""Where a backbone's weights stand in a published file: the maps from our names to the file's.

A map is a dict from a leaf of ours, such as ``params/stage1_0/conv1/kernel``, to a `Tensor`.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
from jaxtyping import Shaped


class Tensor(NamedTuple):
    """A tensor of a file, and what makes it a leaf of ours."""

    name: str
    transform: Callable[[Shaped[np.ndarray, "..."]], Shaped[np.ndarray, "..."]]


Names = dict[str, Tensor]


def same(array: Shaped[np.ndarray, "..."]) -> Shaped[np.ndarray, "..."]:
    """A tensor that both sides write alike."""
    return array


def convolution(array: Shaped[np.ndarray, "o i h w"]) -> Shaped[np.ndarray, "h w i o"]:
    """A kernel of PyTorch's convolutions as Linen has it."""
    return array.transpose(2, 3, 1, 0)


def matrix(array: Shaped[np.ndarray, "o i"]) -> Shaped[np.ndarray, "i o"]:
    """A matrix of PyTorch's linear layers as Linen has it."""
    return array.T


def pytorch_convolution(ours: str, theirs: str, *, bias: bool = False) -> Names:
    """The leaves of a convolution.

    Example:
        >>> sorted(pytorch_convolution("stage0_0/conv", "features.0", bias=True))
        ['params/stage0_0/conv/bias', 'params/stage0_0/conv/kernel']
    """
    return _layer(ours, theirs, convolution, bias)


def pytorch_dense(ours: str, theirs: str, *, bias: bool = True) -> Names:
    """The leaves of a linear layer."""
    return _layer(ours, theirs, matrix, bias)


def pytorch_norm(ours: str, theirs: str) -> Names:
    """The leaves of a layer normalization."""
    return {
        f"params/{ours}/scale": Tensor(f"{theirs}.weight", same),
        f"params/{ours}/bias": Tensor(f"{theirs}.bias", same),
    }


def pytorch_batch_norm(ours: str, theirs: str) -> Names:
    """The leaves of a batch normalization, its running statistics among them."""
    return pytorch_norm(ours, theirs) | {
        f"batch_stats/{ours}/mean": Tensor(f"{theirs}.running_mean", same),
        f"batch_stats/{ours}/var": Tensor(f"{theirs}.running_var", same),
    }


def merge(*maps: Mapping[str, Tensor]) -> Names:
    """The maps in one.

    Raises:
        ValueError: if two of them say where one leaf is.
    """
    merged = {ours: tensor for part in maps for ours, tensor in part.items()}
    if len(merged) < sum(map(len, maps)):
        raise ValueError("two maps have a leaf in common")
    return merged


def _layer(ours: str, theirs: str, transform: Callable, bias: bool) -> Names:
    names = {f"params/{ours}/kernel": Tensor(f"{theirs}.weight", transform)}
    if bias:
        names[f"params/{ours}/bias"] = Tensor(f"{theirs}.bias", same)
    return names

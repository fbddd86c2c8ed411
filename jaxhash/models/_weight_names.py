"""Maps from the parameters of a backbone to the tensors of a published weight file.

A map is a dict from a leaf of the model's variables, such as ``params/stage1_0/conv1/kernel``, to a
`SourceTensor`.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
from jaxtyping import Shaped


class SourceTensor(NamedTuple):
    """The name of a tensor in a file, and the function that converts it to a leaf."""

    name: str
    transform: Callable[[Shaped[np.ndarray, "..."]], Shaped[np.ndarray, "..."]]


WeightNames = dict[str, SourceTensor]


def identity(array: Shaped[np.ndarray, "..."]) -> Shaped[np.ndarray, "..."]:
    """Returns the tensor itself, for tensors with one layout in both frameworks."""
    return array


def to_linen_conv(array: Shaped[np.ndarray, "o i h w"]) -> Shaped[np.ndarray, "h w i o"]:
    """Converts a convolution kernel from PyTorch's layout to Linen's."""
    return array.transpose(2, 3, 1, 0)


def to_linen_dense(array: Shaped[np.ndarray, "o i"]) -> Shaped[np.ndarray, "i o"]:
    """Converts the matrix of a linear layer from PyTorch's layout to Linen's."""
    return array.T


def pytorch_convolution(target: str, source: str, *, bias: bool = False) -> WeightNames:
    """Maps the leaves of a convolution.

    Args:
        target: path of the layer in the model.
        source: name of the layer in the file.
        bias: whether the layer has a bias.

    Example:
        >>> sorted(pytorch_convolution("stage0_0/conv", "features.0", bias=True))
        ['params/stage0_0/conv/bias', 'params/stage0_0/conv/kernel']
    """
    return _layer(target, source, to_linen_conv, bias)


def pytorch_dense(target: str, source: str, *, bias: bool = True) -> WeightNames:
    """Maps the leaves of a linear layer."""
    return _layer(target, source, to_linen_dense, bias)


def pytorch_norm(target: str, source: str) -> WeightNames:
    """Maps the leaves of a layer normalization."""
    return {
        f"params/{target}/scale": SourceTensor(f"{source}.weight", identity),
        f"params/{target}/bias": SourceTensor(f"{source}.bias", identity),
    }


def pytorch_batch_norm(target: str, source: str) -> WeightNames:
    """Maps the leaves of a batch normalization, including its running statistics."""
    return pytorch_norm(target, source) | {
        f"batch_stats/{target}/mean": SourceTensor(f"{source}.running_mean", identity),
        f"batch_stats/{target}/var": SourceTensor(f"{source}.running_var", identity),
    }


def merge(*maps: Mapping[str, SourceTensor]) -> WeightNames:
    """Merges maps without common leaves.

    Raises:
        ValueError: if two maps have a leaf in common.
    """
    merged = {target: tensor for part in maps for target, tensor in part.items()}
    if len(merged) < sum(map(len, maps)):
        raise ValueError("two maps have a leaf in common")
    return merged


def _layer(target: str, source: str, transform: Callable, bias: bool) -> WeightNames:
    names = {f"params/{target}/kernel": SourceTensor(f"{source}.weight", transform)}
    if bias:
        names[f"params/{target}/bias"] = SourceTensor(f"{source}.bias", identity)
    return names

"""Which parts of an objective's state may be spread over devices."""

import jax
from jaxtyping import PyTree

from jaxhash.objectives._discrete import DiscreteState
from jaxhash.objectives._pairs import Bank


def spread_leaves(state: PyTree) -> PyTree[bool]:
    """Of each leaf of an objective's state whether its rows may be spread over devices.

    Those of a `Bank` may, but for one that an alternating method finds its codes from: each device
    finds the codes of all images.

    Example:
        >>> import numpy as np
        >>> bank = Bank(np.zeros((8, 4)), np.zeros(8, int), np.zeros(8, bool))
        >>> spread_leaves({"bank": bank, "centres": np.zeros((3, 4))})
        {'bank': Bank(codes=True, labels=True, seen=True), 'centres': False}
    """

    def of_node(node):
        return jax.tree.map(lambda _: isinstance(node, Bank), node)

    return jax.tree.map(of_node, state, is_leaf=lambda node: isinstance(node, Bank | DiscreteState))

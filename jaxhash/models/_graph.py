"""An encoder of the nodes of a graph of users and items, from their sampled neighbors."""

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PyTree, Shaped

from jaxhash.models._encoder import merge_views, split_views

#: Initial vectors of nodes.
_INITIAL = nn.initializers.variance_scaling(1.0, "fan_in", "normal", out_axis=0)


class GraphEncoder(nn.Module):
    r"""Real-valued codes of users and items, by mean aggregation over their neighbors (GraphSAGE).

    With a trained vector :math:`e_v` of each node,

    .. math:: z_v = \sigma(W_t e_v + b_t), \qquad
              x_v = \sigma\big(W'_t\, [z_v ; \operatorname{mean}_{w \in N(v)} z_w]\big), \qquad
              u_v = W''_t x_v + b''_t,

    where :math:`\sigma` is the leaky ReLU and t the type of the node: users and items have weights of
    their own. The mean of no neighbor is 0.

    Attributes:
        users: number of users; the nodes from there on are items.
        items: number of items.
        bits: length of a code.
        embedding: width of :math:`e`.
        width: width of z and x.
        axis_name: mapped axis over which the batch is sharded; rows do not depend on others.

    Reference:
        Tan et al., "Learning to Hash with Graph Neural Networks for Recommender Systems" (HashGNN),
        WWW 2020, as read in the authors' code (``qiaoyu-tan/HashGNN``, ``model.py``), with its
        widths: 120 and 68. There the aggregation has no bias, as here, and the tanh after the last
        layer belongs to the objective here. Departures: users are aggregated over one hop, like
        items, and not over two; neighbors are sampled without replacement.
    """

    users: int
    items: int
    bits: int
    embedding: int = 120
    width: int = 68
    axis_name: str | None = None

    @nn.compact
    def __call__(
        self,
        inputs: PyTree[Shaped[Array | np.ndarray, "n _"]],
        *,
        train: bool = False,
        mask: Bool[Array | np.ndarray, " n"] | None = None,
        return_features: bool = False,
    ) -> PyTree[Float[Array, "n _"]]:
        """Computes codes before binarization.

        Args:
            inputs: a node and its neighbors [n, 1 + neighbors], -1 in empty places; or a tuple of such,
                one for each view, which pass through as one batch.
            train: not used: nothing differs in training.
            mask: not used: rows do not depend on others.
            return_features: whether to return x in place of codes.

        Raises:
            ValueError: if inputs are not integers [n, 1 + neighbors].
        """
        views = inputs if isinstance(inputs, tuple) else (inputs,)
        nodes = jnp.asarray(merge_views([*views]))
        if nodes.ndim != 2 or not jnp.issubdtype(nodes.dtype, jnp.integer):
            raise ValueError(
                f"a graph encoder takes integers [n, 1 + neighbors], got {nodes.shape} of {nodes.dtype}"
            )
        node, neighbors = nodes[:, 0], nodes[:, 1:]
        table = jnp.pad(self._embed_nodes(), ((0, 1), (0, 0)))  # an empty place reads the zeros
        around = table[jnp.where(neighbors < 0, len(table) - 1, neighbors)].sum(axis=1)
        around = around / jnp.maximum((neighbors >= 0).sum(axis=1), 1)[:, None]
        x = jnp.concatenate([table[node], around], axis=1)
        x = nn.leaky_relu(self._of_type(x, node, self.width, use_bias=False, name="aggregate"))
        codes = x if return_features else self._of_type(x, node, self.bits, name="head")
        parts = split_views(codes, len(views))
        return tuple(parts) if isinstance(inputs, tuple) else parts[0]

    def _embed_nodes(self) -> Float[Array, "nodes width"]:
        """Returns z of all nodes: a batch of views reads more rows of it than there are nodes."""
        kinds = {"user": self.users, "item": self.items}
        return jnp.concatenate(
            [
                nn.leaky_relu(
                    nn.Dense(self.width, name=f"embed_{kind}")(
                        self.param(f"{kind}s", _INITIAL, (count, self.embedding))
                    )
                )
                for kind, count in kinds.items()
            ]
        )

    def _of_type(
        self,
        x: Float[Array, "n d"],
        nodes: Int[Array, " n"],
        width: int,
        *,
        name: str,
        use_bias: bool = True,
    ) -> Float[Array, "n _"]:
        """Applies the linear layer of the users or of the items to each row."""
        of_user, of_item = (
            nn.Dense(width, use_bias=use_bias, name=f"{name}_{kind}")(x)
            for kind in ("user", "item")
        )
        return jnp.where((nodes < self.users)[:, None], of_user, of_item)

"""Losses of labels that are propagated over the affinities of a batch."""

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, ArrayLike, Float, Shaped

from jaxhash.losses._common import check_codes, gather_batch
from jaxhash.ops.arguments import as_floating, as_real, check_shape, concrete_values
from jaxhash.ops.collectives import all_gather, masked_mean
from jaxhash.ops.meshes import on_any_mesh
from jaxhash.ops.numerics import at_least_float32, cosine_similarity


@on_any_mesh
def propagated_cross_entropy(
    codes: Float[Array, "n bits"],
    logits: Float[Array, "n classes"],
    labels: Shaped[ArrayLike, "n classes"],
    *,
    temperature: float | Float[Array, ""] = 0.1,
    where: Shaped[ArrayLike, " n"] | None = None,
    axis_name: str | None = None,
) -> Float[Array, ""]:
    r"""Cross-entropy of class probabilities that are averaged over the similar rows of the batch.

    .. math:: L = -\frac1{|\Omega|} \sum_{i \in \Omega} \sum_c \frac{y_{ic}}{\sum_{c'} y_{ic'}}
                  \log (G p)_{ic}, \qquad p_j = \operatorname{softmax}(a_j), \qquad
              G_{ij} = \frac{e^{\cos(h_i, h_j) / \tau}}{\sum_k e^{\cos(h_i, h_k) / \tau}}

    where j and k run over all valid rows of the batch, i included, and :math:`\Omega` are the valid
    rows with a label. So rows without a label take part in G, and the gradient teaches which rows
    are similar as well as what each of them is.

    Args:
        codes: codes h; their lengths do not matter.
        logits: scores a of the classes.
        labels: multi-hot rows y, or other non-negative weights; zeros for a row outside of
            :math:`\Omega`.
        temperature: :math:`\tau`.
        axis_name: see `jaxhash.losses`. Each row is compared with the rows of all devices.

    Returns:
        The loss; 0 if no row has a label. It is finite for temperatures of at least 0.03.

    Raises:
        ValueError: if the temperature is a number that is not above 0.

    Example:
        >>> h = jnp.array([[1.0, 0.0], [0.0, 1.0]])  # cosine 0: the weights of G are e and 1
        >>> a = jnp.log(jnp.array([[3.0, 1.0], [1.0, 1.0]]))  # p is (3/4, 1/4) and (1/2, 1/2)
        >>> y = jnp.array([[1, 0], [0, 0]])
        >>> value = propagated_cross_entropy(h, a, y, temperature=1.0)
        >>> f"{value:.4f}"  # -log((3 e / 4 + 1 / 2) / (e + 1))
        '0.3816'

    Reference:
        A reading of this library: the pairwise loss :math:`-Y^\top \log (G \alpha^u)` of Wang, Liu,
        Ma, Yang, "Weakly-Supervised Semantic Segmentation by Iterative Affinity Learning", IJCV
        2020, known from a review, with rows of a batch for pixels. There G is the output of a
        spatial propagation network; here it is a softmax of cosines of codes.
    """
    codes, where = check_codes(codes, where)
    value = concrete_values(temperature)
    if value is not None and not value > 0:
        raise ValueError(f"temperature must be above 0, got {temperature}")
    logits = at_least_float32(as_floating("logits", logits, ndim=2))
    check_shape("logits", logits, (len(codes), None))
    labels = as_real("labels", labels, (len(codes), None), minimum=0.0).astype(logits.dtype)
    if labels.shape != logits.shape:
        raise ValueError(
            f"logits and labels must have one shape, got {logits.shape} and {labels.shape}"
        )
    labels = jnp.maximum(labels, 0.0)  # negative weights cannot be refused in traced labels
    if where is not None:
        logits = jnp.where(where[:, None], logits, 0.0)
        labels = jnp.where(where[:, None], labels, 0.0)
    chosen = jnp.any(labels != 0, axis=1)

    others, valid = gather_batch(codes, where, axis_name)
    log_p = all_gather(jax.nn.log_softmax(logits), axis_name)
    cosines = jnp.where(valid[None, :], cosine_similarity(codes, others), -2.0)
    highest = lax.stop_gradient(jnp.max(cosines, axis=1, keepdims=True, initial=-2.0))
    weights = jnp.where(valid[None, :], jnp.exp((cosines - highest) / temperature), 0.0)
    weights = weights / jnp.where(valid.any(), jnp.sum(weights, axis=1, keepdims=True), 1.0)
    # Relative to the largest probability of each class, so that the sum cannot underflow: no weight
    # of a valid row is below e^(-2 / temperature) / n.
    largest = lax.stop_gradient(
        jnp.max(log_p, axis=0, keepdims=True, where=valid[:, None], initial=-jnp.inf)
    )
    largest = jnp.where(jnp.isfinite(largest), largest, 0.0)
    relative = jnp.where(valid[:, None], jnp.exp(log_p - largest), 0.0)
    propagated = jnp.matmul(weights, relative, precision=lax.Precision.HIGHEST)
    propagated = jnp.where(chosen[:, None] & (labels > 0), propagated, 1.0)
    log_propagated = jnp.where(labels > 0, jnp.log(propagated) + largest, 0.0)
    total = jnp.where(chosen, jnp.sum(labels, axis=1), 1.0)
    cost = -jnp.sum(labels * log_propagated, axis=1) / total
    return masked_mean(cost, chosen, axis_name)

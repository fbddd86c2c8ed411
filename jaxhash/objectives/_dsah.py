"""DSAH: two regressions and class means, on the machinery of the alternating methods."""

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float

from jaxhash import losses
from jaxhash.losses._discrete import normal_equations, solve_ridge
from jaxhash.objectives._banks import update_bank
from jaxhash.objectives._base import (
    Loss,
    Objective,
    Variables,
    Weight,
    check_positive,
    check_weights,
    zero_padding,
)
from jaxhash.objectives._discrete import bank_block, bank_blocks, initial_state, update_codes
from jaxhash.objectives._method import Method
from jaxhash.objectives._tables import ItemTable, look_up
from jaxhash.ops.codes import relax
from jaxhash.ops.collectives import masked_mean, weighted_means
from jaxhash.similarity import multi_hot

__all__ = ["dsah"]


def dsah(
    *,
    mu: float = 0.01,
    nu: float = 1.0,
    eta: float = 0.01,
    similarity: Weight = 0.1,
) -> Objective:
    r"""DSAH: class means near binary codes that regress labels and their complement, updated each epoch.

    .. math:: L = \operatorname{mean}_{i,k} (b_{ik} - \bar h_{y_i k})^2
              + \lambda \operatorname{mean}_{i,k} (h_{ik} - \bar h_{y_i k})^2, \qquad h = \tanh u,

    with :math:`\bar h_c` the mean of class c in the whole batch and b the batch's rows of the binary
    codes B of all images. When an epoch begins, B and two classifiers are computed from the last h
    of all images to reduce :math:`\|Y - BW_1\|^2 + \mu \|(1 - Y) - BW_2\|^2 + \nu (\|W_1\|^2 +
    \|W_2\|^2) + \eta \|B - \bar U\|^2` with :math:`\bar U` the mean of all images of the class, by
    `jaxhash.losses.dsdh_classifier` and `jaxhash.losses.dsah_codes`. The classifiers have no bias, with
    which both regressions would be the same. In the first epoch B is random.

    The sum of :math:`A_{ij} \|h_i - h_j\|^2` over the pairs of a class of n images, with an affinity
    of :math:`1 / n`, is twice the second term's sum. For an image of several labels, means are those of
    the means of its classes; one without a label is left out.

    Args:
        mu: weight of the regression of the complement (the "dual label"). Most of its target is the
            same for all classes: from 0.1 on, most bits become so too.
        nu: weight of the squared norms of the classifiers.
        eta: weight of the distance of B to the class means, in the step for B.
        similarity: lambda, the weight of the distances within a class.

    Raises:
        ValueError: if mu or nu is not above 0, or another option is below 0.

    Example:
        >>> method = dsah(similarity=1.0)

    Reference:
        A reading of ours of Lu et al., "Deep asymmetric hashing with dual semantic regression and
        class structure quantization", Information Sciences 589 (2022). Evidence: its abstract, which
        has a quantization by classes in place of one to one, a dual label in the regression, a
        loss of the distances of outputs of a class on an affinity graph, and database codes that are
        learned. Formulas, weights and schedule are choices of this library, on the machinery of
        `asymmetric_dsh`; and as there, B is not used for retrieval.
    """
    check_positive(mu=mu, nu=nu)
    check_weights(eta=eta, similarity=similarity)

    def init(key, setup):
        classifier = jnp.zeros((setup.bits, setup.classes), jnp.float32)
        return Variables(state=initial_state(key, setup, (classifier, classifier)))

    def find_codes(state, axis_name):
        bank, classes = state.bank, state.of_class[0].shape[1]
        blocks = bank_blocks(bank)

        def block(number):
            part = bank_block(bank, blocks, number)
            return part, multi_hot(part.labels, classes) * part.seen[:, None]

        def sums(number):
            part, labels = block(number)
            codes, labelled = blocks.cut(state.codes.rows, number), _has_label(labels)
            return (
                jnp.matmul(labels.T, part.codes, precision=lax.Precision.HIGHEST),
                jnp.sum(labels, axis=0),
                normal_equations(codes, labels, labelled),
                normal_equations(codes, 1.0 - labels, labelled),
            )

        of_class, number_of_class, products, dual_products = blocks.sum(sums, axis_name)
        means = of_class / jnp.where(number_of_class > 0, number_of_class, 1.0)[:, None]
        classifier = solve_ridge(*products, nu)
        dual = solve_ridge(*dual_products, nu / mu)

        def update(number, codes):
            part, labels = block(number)
            new = losses.dsah_codes(
                blocks.cut(codes, number),
                _mean_over_classes(labels, means),
                labels,
                classifier,
                dual,
                dual_weight=mu,
                weight=eta,
                where=part.seen,
            )
            return blocks.put(codes, new, number)

        codes = lax.fori_loop(0, blocks.count, update, state.codes.rows)
        return state._replace(codes=ItemTable(codes), of_class=(classifier, dual))

    def loss(variables, codes, batch, context):
        state = update_codes(find_codes, variables.state, context)
        relaxed = relax(zero_padding(codes.astype(jnp.float32), batch))
        labels = multi_hot(batch.labels, state.of_class[0].shape[1]) * batch.mask[:, None]
        of_class, _ = weighted_means(relaxed, labels, context.axis_name)
        means = _mean_over_classes(labels, of_class)
        rows = {"where": _has_label(labels), "axis_name": context.axis_name}
        quantization = losses.distance_to_codes(
            means, look_up(state.codes, batch.index, context), **rows
        )
        scatter = masked_mean(jnp.mean((relaxed - means) ** 2, axis=1), **rows)
        bank = update_bank(state.bank, relaxed, batch, context)
        terms = {"dsah": quantization, "dsah_similarity": scatter}
        return Loss(quantization + similarity * scatter, state._replace(bank=bank), terms)

    return Objective(init, loss)


def _has_label(labels: Float[Array, "n classes"]) -> Bool[Array, " n"]:
    return jnp.sum(labels, axis=1) > 0


def _mean_over_classes(
    labels: Float[Array, "n classes"], means: Float[Array, "classes bits"]
) -> Float[Array, "n bits"]:
    """Returns, for each row, the mean over its classes of their means; zeros without a label."""
    number = jnp.sum(labels, axis=1, keepdims=True)
    own = jnp.matmul(labels, means, precision=lax.Precision.HIGHEST)
    return own / jnp.maximum(number, 1.0)


#: The methods of this family.
METHODS = (
    Method(
        dsah,
        "a reading of Lu et al., INS 2022",
        kind="discrete",
        state="bank, codes, classifiers",
        multi_label="mean over its classes",
    ),
)

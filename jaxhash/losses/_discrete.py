"""Losses against binary codes that are optimized beside the network, and the steps that find them.

Each step minimizes exactly over one bit of all codes at a time, with the other bits fixed (discrete
cyclic coordinate descent). The steps have no gradient. Their rows may be sharded over devices.
"""

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, ArrayLike, Bool, Float, Shaped

from jaxhash.losses._common import PairCounts, check_pairs, count_pairs, mean_over_pairs
from jaxhash.ops.arguments import as_floating, as_mask, check_shape, check_signs
from jaxhash.ops.collectives import psum_local_grad, psum_no_grad, row_count
from jaxhash.ops.meshes import on_any_mesh, sharded_like_first
from jaxhash.ops.numerics import at_least_float32, inner_products

_EXACT = lax.Precision.HIGHEST


@on_any_mesh
def distance_to_codes(
    codes: Float[Array, "n bits"],
    targets: Float[Array, "n bits"],
    *,
    where: Shaped[ArrayLike, " n"] | None = None,
    axis_name: str | None = None,
) -> Float[Array, ""]:
    r"""Squared distance of each code to a binary target code.

    .. math:: L = \operatorname{mean}_{i,k} (u_{ik} - b_{ik})^2

    Args:
        codes: outputs of the network, raw or relaxed.
        targets: codes of -1 and +1, one per row; constants for the gradient.

    Raises:
        ValueError: if targets are other than -1 and +1.

    Example:
        >>> distance_to_codes(jnp.array([[0.5, 1.0]]), jnp.array([[1.0, -1.0]]))  # (0.25 + 4) / 2
        Array(2.125, dtype=float32)

    Reference:
        The quantization term of Li, Sun, He, Tan, "Deep supervised discrete hashing" (DSDH), NIPS
        2017, and of Jiang, Li, "Asymmetric deep supervised hashing" (ADSH), AAAI 2018. Departure:
        a mean over rows and bits; both papers sum.
    """
    codes, targets = _as_floating(codes=codes, targets=targets)
    check_shape("targets", targets, codes.shape)
    where = as_mask("where", where, codes.shape[:1])
    check_signs("targets", targets, where)
    gap = codes - lax.stop_gradient(targets)
    if where is not None:
        gap = jnp.where(where[:, None], gap, 0.0)
    number = jnp.maximum(row_count(codes, where, axis_name), 1) * codes.shape[1]
    return psum_local_grad(jnp.sum(gap**2) / number, axis_name)


@on_any_mesh
def asymmetric_dsh(
    codes: Float[Array, "n bits"],
    others: Float[Array, "m bits"],
    similar: Shaped[ArrayLike, "n m"],
    *,
    balanced: bool = True,
    where: Shaped[ArrayLike, "n m"] | None = None,
    axis_name: str | None = None,
    pair_counts: PairCounts | None = None,
) -> Float[Array, ""]:
    r"""Squared error of inner products with binary database codes (ADSH).

    .. math:: L = \operatorname{mean}_{ij} \Big(\frac{h_i \cdot v_j}{\mathrm{bits}} - S_{ij}\Big)^2

    with S = 1 for the :math:`|S_1|` similar pairs and :math:`S = -\min(1, |S_1| / |S_0|)` for the
    :math:`|S_0|` dissimilar pairs, or -1 without ``balanced``.

    Args:
        codes: relaxed codes, tanh u.
        others: codes of -1 and +1.
        balanced: whether S of dissimilar pairs shrinks with their number.

    Example:
        >>> h, v = jnp.array([[0.5]]), jnp.array([[1.0], [1.0], [-1.0]])
        >>> same = jnp.array([[True, False, False]])  # dissimilar: S = -1/2
        >>> round(float(asymmetric_dsh(h, v, same)), 4)  # (0.5^2 + 1^2 + 0^2) / 3
        0.4167

    Reference:
        Jiang, Li, "Asymmetric deep supervised hashing" (ADSH), AAAI 2018. The paper defines S with
        -1 (from memory; the text was not at hand); ``balanced`` is the S of the authors' code,
        without the bound there. Departures: a mean over pairs, and products and S divided by bits
        (the paper has h . v - bits S), so that the weight of another term has the same meaning for
        every batch size and code length.
    """
    codes, others, similar, where = check_pairs(codes, others, similar, where)
    pair_counts = count_pairs(similar, where, axis_name) if pair_counts is None else pair_counts
    negative = asymmetric_dsh_target(*pair_counts) if balanced else -1.0
    products = inner_products(codes, others) / codes.shape[1]
    errors = products - jnp.where(similar, 1.0, negative)
    return mean_over_pairs(errors**2, where, axis_name, pair_counts)


def asymmetric_dsh_target(
    similar: Shaped[Array, ""], dissimilar: Shaped[Array, ""]
) -> Float[Array, ""]:
    """Returns the target S of dissimilar pairs in `asymmetric_dsh`, given the number of pairs.

    Example:
        >>> asymmetric_dsh_target(jnp.float32(10), jnp.float32(40))
        Array(-0.25, dtype=float32)
    """
    return -jnp.minimum(similar / jnp.maximum(dissimilar, 1.0), 1.0)


@on_any_mesh(out_specs=sharded_like_first)
def asymmetric_dsh_codes(
    codes: Float[Array, "items bits"],
    relaxed: Float[Array, "items bits"],
    wanted: Float[Array, "items bits"],
    *,
    gamma: float | Float[ArrayLike, ""] = 200.0,
    where: Shaped[ArrayLike, " items"] | None = None,
    axis_name: str | None = None,
    gram: Float[Array, "bits bits"] | None = None,
) -> Float[Array, "items bits"]:
    r"""Updates binary database codes by one pass over the bits, each set to its minimizer (ADSH).

    .. math:: \min_V \sum_{ij} (h_i \cdot v_j - \mathrm{bits}\, S_{ij})^2
              + \gamma \sum_j \|v_j - h_j\|^2
    .. math:: v_k = \operatorname{sign}\big(\mathrm{bits}\, (S^\top H)_k + \gamma h_k
              - V_{\neg k} H_{\neg k}^\top h_k\big)

    Args:
        codes: initial codes of -1 and +1, V.
        relaxed: the network's relaxed codes of the same images, H.
        wanted: :math:`S^\top H`: for each image the sum of all relaxed codes, each times the target
            S of the pair in `asymmetric_dsh`.
        gamma: weight of the distance to the image's own relaxed code, in sums as above.
        where: True for the valid rows; the others are neither read nor changed.
        gram: :math:`H^\top H` of all images, where the rows are some of them.

    Returns:
        Codes of -1 and +1 [items, bits].

    Example:
        >>> h = jnp.array([[0.5], [-0.5]])
        >>> wanted = jnp.array([[1.0], [-1.0]])  # S = 1 on the diagonal, else -1
        >>> asymmetric_dsh_codes(-jnp.ones((2, 1)), h, wanted)
        Array([[ 1.],
               [-1.]], dtype=float32)

    Reference:
        Jiang, Li, "Asymmetric deep supervised hashing" (ADSH), AAAI 2018, the step for V.
    """
    codes, relaxed, wanted = _as_floating(codes=codes, relaxed=relaxed, wanted=wanted)
    check_shape("relaxed", relaxed, codes.shape)
    check_shape("wanted", wanted, codes.shape)
    where = _valid(codes, where)
    relaxed = jnp.where(where[:, None], relaxed, 0.0)
    if gram is None:
        gram = psum_no_grad(jnp.matmul(relaxed.T, relaxed, precision=_EXACT), axis_name)
    check_shape("gram", gram, (codes.shape[1],) * 2)
    linear = codes.shape[1] * wanted + gamma * relaxed

    def set_bit(k, codes):
        other_bits = jnp.matmul(codes, gram[:, k].at[k].set(0.0), precision=_EXACT)
        return _set_bit(codes, k, linear[:, k] - other_bits, where)

    return lax.fori_loop(0, codes.shape[1], set_bit, codes)


@on_any_mesh
def dsdh_classifier(
    codes: Float[Array, "items bits"],
    labels: Shaped[ArrayLike, "items classes"],
    *,
    ridge: float = 100.0,
    where: Shaped[ArrayLike, " items"] | None = None,
    axis_name: str | None = None,
) -> Float[Array, "bits classes"]:
    r"""Fits a linear classifier of binary codes by ridge regression of their labels (DSDH).

    .. math:: W = \arg\min_W \|Y - BW\|^2 + \lambda \|W\|^2
              = (B^\top B + \lambda I)^{-1} B^\top Y

    Args:
        codes: codes of -1 and +1.
        labels: multi-hot rows; a row without a label is left out.
        ridge: lambda, which is nu / mu of the paper.

    Returns:
        W [bits, classes].

    Example:
        >>> dsdh_classifier(jnp.array([[1.0], [-1.0]]), jnp.eye(2), ridge=2.0)  # 1 / (2 + 2)
        Array([[ 0.25, -0.25]], dtype=float32)

    Reference:
        Li, Sun, He, Tan, "Deep supervised discrete hashing" (DSDH), NIPS 2017, the step for W.
    """
    (codes,) = _as_floating(codes=codes)
    _, labels = _check_labels(codes, labels)
    where = _valid(codes, where)
    products = normal_equations(codes, labels, where)
    return solve_ridge(*(psum_no_grad(each, axis_name) for each in products), ridge)


def normal_equations(
    codes: Float[Array, "items bits"],
    labels: Float[Array, "items classes"],
    where: Bool[Array, " items"],
) -> tuple[Float[Array, "bits bits"], Float[Array, "bits classes"]]:
    """Returns B^T B and B^T Y of the valid rows with a label; those of blocks of rows add up."""
    rows = jnp.where((where & (labels > 0).any(axis=1))[:, None], codes, 0.0)
    return tuple(jnp.matmul(rows.T, each, precision=_EXACT) for each in (rows, labels))


def solve_ridge(
    gram: Float[Array, "bits bits"], sums: Float[Array, "bits classes"], ridge: float
) -> Float[Array, "bits classes"]:
    """Solves the normal equations of a ridge regression."""
    return jnp.linalg.solve(gram + ridge * jnp.eye(len(gram)), sums)


@on_any_mesh(out_specs=sharded_like_first)
def dsdh_codes(
    codes: Float[Array, "items bits"],
    relaxed: Float[Array, "items bits"],
    labels: Shaped[ArrayLike, "items classes"],
    classifier: Float[Array, "bits classes"],
    *,
    weight: float | Float[ArrayLike, ""] = 1.0,
    where: Shaped[ArrayLike, " items"] | None = None,
) -> Float[Array, "items bits"]:
    r"""Updates binary codes by one pass over the bits, each set to its minimizer (DSDH).

    .. math:: \min_B \|Y - BW\|^2 + \lambda \|B - U\|^2
    .. math:: b_k = \operatorname{sign}\big(Y w_k + \lambda u_k - B_{\neg k} W_{\neg k} w_k\big)

    with row k of W as :math:`w_k`. A row without a label depends on its own u alone.

    Args:
        codes: initial codes of -1 and +1, B.
        relaxed: the network's codes of the same images, U.
        labels: multi-hot rows, Y.
        classifier: W.
        weight: lambda, which is eta / mu of the paper.
        where: True for the valid rows; the others are neither read nor changed.

    Returns:
        Codes of -1 and +1 [items, bits].

    Example:
        >>> b, u, y = jnp.array([[-1.0]]), jnp.array([[-0.5]]), jnp.array([[1.0]])
        >>> dsdh_codes(b, u, y, jnp.array([[1.0]]), weight=1.0)  # 1 - 0.5 is above 0
        Array([[1.]], dtype=float32)

    Reference:
        Li, Sun, He, Tan, "Deep supervised discrete hashing" (DSDH), NIPS 2017, the step for B.
    """
    codes, relaxed, classifier = _as_floating(codes=codes, relaxed=relaxed, classifier=classifier)
    check_shape("relaxed", relaxed, codes.shape)
    labelled, labels = _check_labels(codes, labels)
    check_shape("classifier", classifier, (codes.shape[1], labels.shape[1]))
    where = _valid(codes, where)
    relaxed = jnp.where(where[:, None], relaxed, 0.0)
    gram = jnp.matmul(classifier, classifier.T, precision=_EXACT)
    linear = jnp.matmul(labels, classifier.T, precision=_EXACT) + weight * relaxed
    return _set_bits(codes, linear, gram, labelled, where)


@on_any_mesh(out_specs=sharded_like_first)
def dsah_codes(
    codes: Float[Array, "items bits"],
    relaxed: Float[Array, "items bits"],
    labels: Shaped[ArrayLike, "items classes"],
    classifier: Float[Array, "bits classes"],
    dual_classifier: Float[Array, "bits classes"],
    *,
    dual_weight: float | Float[ArrayLike, ""] = 1.0,
    weight: float | Float[ArrayLike, ""] = 1.0,
    where: Shaped[ArrayLike, " items"] | None = None,
) -> Float[Array, "items bits"]:
    r"""Updates binary codes by one pass over the bits, with labels and their complement (DSAH).

    .. math:: \min_B \|Y - B W_1\|^2 + \mu \|(1 - Y) - B W_2\|^2 + \lambda \|B - \bar U\|^2

    A row without a label depends on its own row of :math:`\bar U` alone.

    Args:
        codes: initial codes of -1 and +1, B.
        relaxed: what the codes should be near, the mean code of each image's class.
        labels: multi-hot rows, Y.
        classifier: :math:`W_1`.
        dual_classifier: :math:`W_2`.
        dual_weight: mu.
        weight: lambda.
        where: True for the valid rows; the others are neither read nor changed.

    Returns:
        Codes of -1 and +1 [items, bits].

    Example:
        >>> b, u, y = jnp.array([[-1.0]]), jnp.array([[-0.5]]), jnp.array([[1.0, 0.0]])
        >>> dsah_codes(b, u, y, jnp.array([[1.0, 0.0]]), jnp.array([[0.0, 1.0]]))  # 1 + 1 - 0.5 > 0
        Array([[1.]], dtype=float32)

    Reference:
        A reading of ours of Lu et al., "Deep asymmetric hashing with dual semantic regression and
        class structure quantization" (DSAH), Information Sciences 589 (2022); see
        `jaxhash.objectives.dsah`.
    """
    codes, relaxed, classifier, dual_classifier = _as_floating(
        codes=codes, relaxed=relaxed, classifier=classifier, dual_classifier=dual_classifier
    )
    check_shape("relaxed", relaxed, codes.shape)
    labelled, labels = _check_labels(codes, labels)
    check_shape("classifier", classifier, (codes.shape[1], labels.shape[1]))
    check_shape("dual_classifier", dual_classifier, classifier.shape)
    where = _valid(codes, where)
    relaxed = jnp.where(where[:, None], relaxed, 0.0)
    parts = (labels, classifier, 1.0), (1.0 - labels, dual_classifier, dual_weight)
    gram = sum(factor * jnp.matmul(w, w.T, precision=_EXACT) for _, w, factor in parts)
    regression = sum(factor * jnp.matmul(y, w.T, precision=_EXACT) for y, w, factor in parts)
    linear = jnp.where(labelled[:, None], regression, 0.0) + weight * relaxed
    return _set_bits(codes, linear, gram, labelled, where)


def _as_floating(**arrays: Float[Array, "_ _"]) -> list[Float[Array, "_ _"]]:
    """Returns the checked matrices in the accumulation dtype of the first."""
    matrices = [as_floating(name, array, ndim=2) for name, array in arrays.items()]
    dtype = at_least_float32(matrices[0]).dtype
    return [matrix.astype(dtype) for matrix in matrices]


def _valid(
    codes: Float[Array, "items bits"], where: Shaped[ArrayLike, " items"] | None
) -> Bool[Array, " items"]:
    where = as_mask("where", where, codes.shape[:1])
    return jnp.ones(len(codes), bool) if where is None else where


def _check_labels(
    codes: Float[Array, "items bits"], labels: Shaped[ArrayLike, "items classes"]
) -> tuple[Bool[Array, " items"], Float[Array, "items classes"]]:
    """Returns which rows have a label, and the labels in the dtype of the codes."""
    labels = as_mask("labels", labels, (len(codes), None))
    return labels.any(axis=1), labels.astype(codes.dtype)


def _set_bits(codes, linear, gram, labelled, where):
    """Sets each bit in turn to the sign of its linear score, less that of the others if labelled."""

    def set_bit(k, codes):
        other_bits = jnp.matmul(codes, gram[:, k].at[k].set(0.0), precision=_EXACT)
        return _set_bit(codes, k, linear[:, k] - jnp.where(labelled, other_bits, 0.0), where)

    return lax.fori_loop(0, codes.shape[1], set_bit, codes)


def _set_bit(codes, k, score, where):
    """Sets bit k of the valid rows to the sign of the score; 0 counts as +1."""
    return codes.at[:, k].set(jnp.where(where, jnp.where(score >= 0, 1.0, -1.0), codes[:, k]))

"""Distillation: codes of one view of an image are trained to match those of another."""

from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxhash import losses
from jaxhash.objectives._base import (
    Loss,
    Objective,
    Variables,
    Weight,
    add_penalty,
    check_positive,
    check_weights,
    from_loss,
    on_relaxed,
    zero_padding,
)
from jaxhash.objectives._method import SOFT_LABELS, Method
from jaxhash.ops.codes import relax
from jaxhash.similarity import multi_hot

__all__ = ["dhd"]


def dhd(
    *,
    distillation: float = 0.1,
    temperature: float = 0.2,
    sigma: float = 0.5,
    penalty: Weight = 0.1,
) -> Objective:
    r"""DHD: codes of the first view approach class proxies, and the second view matches the first.

    With :math:`h = \tanh u` of the two views of an image,

    .. math:: L = \mathrm{CE}\big(\cos(h^{(1)}, p_c) / \tau,\; y / \textstyle\sum y\big)
              + \lambda_1 \operatorname{mean} \big[ 1 - \cos(h^{(2)}, \bar h^{(1)}) \big]
              + \lambda\, Q(h^{(1)})

    with proxies p trained, no gradient through :math:`\bar h^{(1)}`, and Q the
    `jaxhash.losses.gaussian_bce_quantization`.

    Args:
        distillation: weight :math:`\lambda_1` of `jaxhash.losses.cosine_distillation`.
        temperature: :math:`\tau` of `jaxhash.losses.hash_proxy`.
        sigma: deviation of the Gaussians of Q.
        penalty: weight :math:`\lambda` of Q; 0 leaves it out.

    Raises:
        ValueError: if temperature or sigma is not above 0 or a weight is below 0; at the first
            call, if codes are not of two views.

    Example:
        >>> dhd(temperature=0.5).views
        2

    Reference:
        Jang, Gu, Ko, Kang, Cho, "Deep Hash Distillation for Image Retrieval" (DHD), ECCV 2022,
        after its released code. Departures: the paper transforms the first view weakly and the
        second strongly; here the data pipeline makes the views, and where it makes both in the same way the
        first is no better a teacher than the second. The paper's layer norm before the tanh, and
        its hash layer without a bias, are options of the model.
    """
    check_weights(distillation=distillation)
    check_positive(temperature=temperature, sigma=sigma)

    def init(key, setup):
        # Glorot's uniform law with the gain of tanh; of proxies only the directions matter.
        bound = 5 / 3 * (6 / (setup.classes + setup.bits)) ** 0.5
        shape = (setup.classes, setup.bits)
        return Variables(params=jax.random.uniform(key, shape, minval=-bound, maxval=bound))

    def loss(variables, codes, batch, context):
        teacher, student = (
            relax(zero_padding(view.astype(jnp.float32), batch)) for view in _two_views(codes)
        )
        options = {"where": jnp.asarray(batch.mask), "axis_name": context.axis_name}
        labels = multi_hot(jnp.asarray(batch.labels), variables.params.shape[0])
        proxy = losses.hash_proxy(
            teacher, variables.params, labels, temperature=temperature, **options
        )
        distilled = losses.cosine_distillation(student, teacher, **options)
        terms = {
            "dhd_proxy": proxy,
            "dhd_distillation": distilled,
        }
        return Loss(proxy + distillation * distilled, variables.state, terms)

    quantization = on_relaxed(partial(losses.gaussian_bce_quantization, sigma=sigma))
    penalty_term = _on_first_view(from_loss("dhd_penalty", quantization))
    return add_penalty(Objective(init, loss, views=2), penalty, penalty_term)


def _on_first_view(objective: Objective) -> Objective:
    """Returns the objective of the first view's codes."""

    def loss(variables, codes, batch, context):
        return objective.loss(variables, _two_views(codes)[0], batch, context)

    return objective._replace(loss=loss)


def _two_views(codes) -> tuple[Float[Array, "n bits"], Float[Array, "n bits"]]:
    """Returns the codes of both views.

    Raises:
        ValueError: if codes are not of two views.
    """
    if not (isinstance(codes, (tuple, list)) and len(codes) == 2):
        raise ValueError(f"codes must be of two views, got {jax.tree.structure(codes)}")
    return tuple(codes)


#: The methods of this family.
METHODS = (
    Method(
        dhd,
        "Jang et al., ECCV 2022",
        kind="distillation",
        state="proxies",
        multi_label=SOFT_LABELS,
        learning_rate=0.01,
        settings={"drop": 0.2},  # two views must differ
    ),
)

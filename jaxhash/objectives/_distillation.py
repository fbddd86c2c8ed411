"""Methods that teach the codes of one view of an image to follow those of another."""

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
    without_padding,
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
    r"""DHD: codes of the first view go to the proxies of their classes, the second view follows.

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
        ValueError: if temperature or sigma is not above 0 or a weight is below 0; at the first call, if codes are not of
            two views.

    Example:
        >>> dhd(temperature=0.5).views
        2

    Reference:
        Jang, Gu, Ko, Kang, Cho, "Deep Hash Distillation for Image Retrieval" (DHD), ECCV 2022, after
        its released code. Departures: the paper's first view is transformed weakly and its second
        strongly; how views are made is the pipeline's business, and where both are made alike the
        first is no better a teacher than the second. A layer norm before the tanh, and a hash layer
        without a bias, are the model's business.
    """
    check_weights(distillation=distillation)
    check_positive(temperature=temperature, sigma=sigma)

    def init(key, setup):
        # Glorot's uniform law with the gain of tanh; of proxies only the directions matter.
        bound = 5 / 3 * (6 / (setup.classes + setup.bits)) ** 0.5
        shape = (setup.classes, setup.bits)
        return Variables(params=jax.random.uniform(key, shape, minval=-bound, maxval=bound))

    def of_views(variables, codes, batch, context):
        teacher, student = (
            relax(without_padding(view.astype(jnp.float32), batch)) for view in _two(codes)
        )
        options = {"where": jnp.asarray(batch.mask), "axis_name": context.axis_name}
        labels = multi_hot(jnp.asarray(batch.labels), variables.params.shape[0])
        proxy = losses.hash_proxy(
            teacher, variables.params, labels, temperature=temperature, **options
        )
        follow = losses.cosine_distillation(student, teacher, **options)
        terms = {
            "dhd_proxy": proxy,
            "dhd_distillation": follow,
        }
        return Loss(proxy + distillation * follow, variables.state, terms)

    quantization = on_relaxed(partial(losses.gaussian_bce_quantization, sigma=sigma))
    own = _of_the_first_view(from_loss("dhd_penalty", quantization))
    return add_penalty(Objective(init, of_views, views=2), penalty, own)


def _of_the_first_view(objective: Objective) -> Objective:
    def loss(variables, codes, batch, context):
        return objective.loss(variables, _two(codes)[0], batch, context)

    return objective._replace(loss=loss)


def _two(codes) -> tuple[Float[Array, "n bits"], Float[Array, "n bits"]]:
    """The codes of both views.

    Raises:
        ValueError: if that is not what they are.
    """
    if not (isinstance(codes, (tuple, list)) and len(codes) == 2):
        raise ValueError(f"codes must be of two views, got {jax.tree.structure(codes)}")
    return tuple(codes)


#: The rows of this family.
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

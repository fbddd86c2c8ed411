"""The optimizer: AdamW with warm-up and cosine decay, and a lower rate for the backbone."""

import jax
import optax
from jaxtyping import ArrayLike, Float, PyTree

from jaxhash.models import MODALITY_PREFIX, stage_index


def make_optimizer(
    *,
    learning_rate: Float[ArrayLike, ""],
    backbone_rate: Float[ArrayLike, ""],
    freeze_stages: int,
    weight_decay: Float[ArrayLike, ""],
    clip_norm: Float[ArrayLike, ""],
    warmup_steps: int,
    total_steps: int,
) -> optax.GradientTransformation:
    """Makes AdamW with linear warm-up, cosine decay to zero and clipping by the global norm.

    The numbers may be traced: a sweep maps over them. Frozen stages are not updated.

    Args:
        learning_rate: peak rate for the hash head and the parameters of the objective.
        backbone_rate: rate for the backbone, as a fraction of ``learning_rate``.
        freeze_stages: number of first stages of the backbone that are frozen; see
            `jaxhash.models.Backbone`, which stops their gradients.
        weight_decay: decoupled weight decay for the model's kernels and the objective's matrices.
        clip_norm: largest global norm of the gradient.
        warmup_steps: number of steps of the warm-up.
        total_steps: number of steps of the training.
    """
    relative_rate = optax.warmup_cosine_decay_schedule(0.0, 1.0, warmup_steps, total_steps)

    def adamw(peak):
        rate = lambda step: peak * relative_rate(step)  # noqa: E731
        return optax.adamw(rate, weight_decay=weight_decay, mask=_decay_mask)

    def labels(params: PyTree) -> PyTree:
        return jax.tree.map_with_path(lambda path, _: _group(path, freeze_stages), params)

    return optax.chain(
        optax.clip_by_global_norm(clip_norm),
        optax.partition(
            {
                "head": adamw(learning_rate),
                "backbone": adamw(learning_rate * backbone_rate),
                "frozen": optax.set_to_zero(),
            },
            labels,
        ),
    )


def _decay_mask(params: PyTree) -> PyTree:
    """Returns, per leaf, whether it decays; biases, scales, tokens and positions do not."""

    def decays(path, leaf):
        names = _names(path)
        return names[-1] == "kernel" if names[:1] == ["model"] else leaf.ndim > 1

    return jax.tree.map_with_path(decays, params)


def _names(path: tuple) -> list[str]:
    return [entry.key for entry in path if isinstance(entry, jax.tree_util.DictKey)]


def _group(path: tuple, freeze_stages: int) -> str:
    """Returns ``backbone``, ``frozen`` or ``head`` for the path of a parameter."""
    names = _names(path)
    if len(names) > 1 and names[1].startswith(MODALITY_PREFIX):
        names = [names[0], *names[2:]]  # each modality has a backbone and a head
    if names[:2] != ["model", "backbone"]:
        return "head"
    stage = stage_index(names[2])
    return "frozen" if stage is not None and stage < freeze_stages else "backbone"

"""The optimizer: AdamW on a warm-up and a cosine, slower for the backbone, still where it is frozen."""

import jax
import optax
from jaxtyping import ArrayLike, Float, PyTree

from jaxhash.models import stage_index


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
    """AdamW with linear warm-up, cosine decay to zero and clipping by the global norm.

    The numbers may be traced: a sweep maps over them.

    Args:
        learning_rate: peak rate of the hash head and of the parameters of the objective.
        backbone_rate: rate of the backbone as a fraction of that.
        freeze_stages: first stages of the backbone that stay as they are; see
            `jaxhash.models.Backbone`, which cuts their gradients off.
        weight_decay: decoupled decay: of the model's kernels, and of the objective's matrices.
        clip_norm: largest norm of the whole gradient.
        warmup_steps: steps of the linear warm-up.
        total_steps: steps of the training.
    """
    share_of_peak = optax.warmup_cosine_decay_schedule(0.0, 1.0, warmup_steps, total_steps)

    def adamw(peak):
        rate = lambda step: peak * share_of_peak(step)  # noqa: E731
        return optax.adamw(rate, weight_decay=weight_decay, mask=_decays)

    def groups(params: PyTree) -> PyTree:
        return jax.tree.map_with_path(lambda path, _: _group(path, freeze_stages), params)

    return optax.chain(
        optax.clip_by_global_norm(clip_norm),
        optax.partition(
            {
                "head": adamw(learning_rate),
                "backbone": adamw(learning_rate * backbone_rate),
                "frozen": optax.set_to_zero(),
            },
            groups,
        ),
    )


def _decays(params: PyTree) -> PyTree:
    """Not biases, scales, tokens and position embeddings."""

    def decays(path, leaf):
        names = _names(path)
        return names[-1] == "kernel" if names[:1] == ["model"] else leaf.ndim > 1

    return jax.tree.map_with_path(decays, params)


def _names(path: tuple) -> list[str]:
    return [entry.key for entry in path if isinstance(entry, jax.tree_util.DictKey)]


def _group(path: tuple, freeze_stages: int) -> str:
    """``backbone``, ``frozen`` or ``head``, by the path of a parameter."""
    names = _names(path)
    if names[:2] != ["model", "backbone"]:
        return "head"
    stage = stage_index(names[2])
    return "frozen" if stage is not None and stage < freeze_stages else "backbone"

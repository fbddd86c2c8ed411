"""The optimizer: AdamW on a warm-up and a cosine, with a rate of its own for the hash head."""

import jax
import optax


def make_optimizer(
    *,
    learning_rate: float,
    head_multiplier: float,
    weight_decay: float,
    clip_norm: float,
    warmup_steps: int,
    total_steps: int,
) -> optax.GradientTransformation:
    """AdamW with linear warm-up, cosine decay to zero and clipping by the global norm.

    Args:
        learning_rate: peak rate of the backbone.
        head_multiplier: rate of everything else (the hash head, parameters of the objective) as a
            multiple of the backbone's.
        weight_decay: decoupled decay, of matrices and convolution kernels only.
        clip_norm: largest norm of the whole gradient.
        warmup_steps: steps of the linear warm-up.
        total_steps: steps of the training.
    """

    def adamw(peak):
        rate = optax.warmup_cosine_decay_schedule(0.0, peak, warmup_steps, total_steps)
        return optax.adamw(rate, weight_decay=weight_decay, mask=_is_matrix)

    return optax.chain(
        optax.clip_by_global_norm(clip_norm),
        optax.partition(
            {"backbone": adamw(learning_rate), "head": adamw(learning_rate * head_multiplier)},
            _group,
        ),
    )


def _is_matrix(params):
    return jax.tree.map(lambda leaf: leaf.ndim > 1, params)


def _group(params):
    """Label each parameter ``backbone`` or ``head``."""

    def label(path, _):
        names = [entry.key for entry in path if isinstance(entry, jax.tree_util.DictKey)]
        return "backbone" if names[:2] == ["model", "backbone"] else "head"

    return jax.tree.map_with_path(label, params)

"""Plain forms in PyTorch of losses of `jaxhash.losses`, as one would write them from the formula.

They need the extra ``jaxhash[compare]``. Each takes the codes and what its loss takes beside them, and
has no mask, no devices, and no care for large numbers.
"""

from collections.abc import Callable

import jax
import torch
import torch.nn.functional as functional
from jaxtyping import Float, Shaped

from jaxhash.bench.config import Pass
from jaxhash.bench.losses import ARGUMENTS, LabeledCodes
from jaxhash.bench.prepare import PreparedLoss
from jaxhash.bench.torch_hswd import prepare_form, to_torch

Codes = Float[torch.Tensor, "n bits"]
Pairs = Shaped[torch.Tensor, "n m"]
Labels = Shaped[torch.Tensor, "n classes"]
Triples = Float[torch.Tensor, "n m bits"]
Scalar = Float[torch.Tensor, ""]


def semantic_consistency(
    codes: Codes, others: Codes, similarity: Pairs, confidence: Pairs
) -> Scalar:
    """Computes CIMON's weighted squared error of inner products."""
    products = codes @ others.T / codes.shape[1]
    return torch.mean(confidence * (products - similarity) ** 2)


def bpr(codes: Codes, others: Codes, negatives: Triples) -> Scalar:
    """Computes the Bayesian personalized ranking of HashGNN."""
    chosen, other = _scores(codes, others, negatives)
    return torch.mean(functional.softplus(other - chosen[:, None]))


def interaction_cross_entropy(codes: Codes, others: Codes, negatives: Triples) -> Scalar:
    """Computes the cross-entropy of HashGNN."""
    chosen, other = _scores(codes, others, negatives)
    scores = torch.cat([chosen[:, None], other], dim=1)
    target = torch.zeros_like(scores)
    target[:, 0] = 1
    return functional.binary_cross_entropy_with_logits(scores, target)


def psh_pairs(codes: Codes, labels: Labels) -> Scalar:
    """Computes PSH's signed squared distances from the matrix of all pairs."""
    labels = functional.normalize(labels.float(), dim=1)
    sizes = codes.pow(2).sum(dim=1)
    squares = sizes[:, None] + sizes[None, :] - 2 * codes @ codes.T
    return torch.mean((2 * labels @ labels.T - 1) * squares)


def propagated_cross_entropy(codes: Codes, logits: Labels, labels: Labels) -> Scalar:
    """Computes the cross-entropy of class probabilities averaged over similar rows."""
    unit = functional.normalize(codes, dim=1)
    weights = torch.softmax(unit @ unit.T / 0.1, dim=1)
    return -(labels * torch.log(weights @ torch.softmax(logits, dim=1))).sum(dim=1).mean()


def _scores(codes: Codes, others: Codes, negatives: Triples) -> tuple[torch.Tensor, torch.Tensor]:
    return (codes * others).sum(dim=1), torch.einsum("nb,nmb->nm", codes, negatives)


#: The forms, by the names of their losses: those of `jaxhash.bench.losses.TORCH_FORMS`.
FORMS: dict[str, Callable[..., Scalar]] = {
    form.__name__: form
    for form in (
        semantic_consistency,
        bpr,
        interaction_cross_entropy,
        psh_pairs,
        propagated_cross_entropy,
    )
}


#: Arguments that are functions of the codes, and so have a gradient: see `LabeledCodes`.
OF_CODES: dict[str, Callable[[Codes], Codes]] = {
    "others": lambda codes: codes,
    "view": lambda codes: 0.5 * codes + 0.25,
}


def prepare_torch_loss(
    name: str, which: Pass, codes: Float[jax.Array, "n bits"], key: jax.Array
) -> PreparedLoss:
    """Prepares the form of a loss on copies of the codes and of its other arguments.

    Raises:
        OutOfMemory: if the device has not enough memory.
    """
    batch, form = LabeledCodes(codes, key, None), FORMS[name]
    fixed = {
        property: to_torch(jax.numpy.asarray(getattr(batch, property)))
        for property in ARGUMENTS[name]
        if property not in OF_CODES
    }

    def loss(copy):
        return form(
            copy,
            *(fixed[one] if one in fixed else OF_CODES[one](copy) for one in ARGUMENTS[name]),
        )

    return prepare_form(loss, which, codes)

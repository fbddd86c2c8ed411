"""Plain forms in PyTorch of losses of `jaxhash.losses`, as one would write them from the formula.

They need the extra ``jaxhash[compare]``. Each takes the codes and what its loss takes beside them, and
has no mask, no devices, and no care for large numbers.
"""

import math
from collections.abc import Callable

import jax
import torch
import torch.nn.functional as functional
from jaxtyping import Float, Shaped

from jaxhash.bench.config import Pass
from jaxhash.bench.losses import ARGUMENTS, NEGATIVES, LabeledCodes
from jaxhash.bench.prepare import PreparedLoss
from jaxhash.bench.torch_hswd import prepare_form, to_torch

Codes = Float[torch.Tensor, "n bits"]
Pairs = Shaped[torch.Tensor, "n m"]
Anchors = Float[torch.Tensor, "classes bits"]
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


def anchor_attraction(codes: Codes, anchors: Anchors, labels: Labels) -> Scalar:
    """Computes half the squared distance to the anchor of the class (CAM)."""
    own = anchors[labels.argmax(dim=1)]
    return 0.5 * (codes - own).pow(2).sum(dim=1).mean()


def proto_triplet(codes: Codes, labels: Labels) -> Scalar:
    """Computes SuSana's triplets, with the mean of the other rows of the class as its prototype."""
    ids = labels.argmax(dim=1)
    sums, number = labels.T @ codes, labels.sum(dim=0)
    own = (sums[ids] - codes) / (number[ids] - 1)[:, None]
    prototypes = sums / number[:, None]
    others = torch.sqrt((codes[:, None] - prototypes[None]).pow(2).sum(dim=2) + 1e-6)
    nearest = others.masked_fill(labels > 0, math.inf).min(dim=1).values
    distance = torch.sqrt((codes - own).pow(2).sum(dim=1) + 1e-6)
    return torch.relu(distance - nearest + 0.5).mean()


def icnn(codes: Codes, others: Codes, similar: Pairs) -> Scalar:
    """Computes SuSana's neighborhood score of four neighbors, among five candidates."""
    order = torch.cdist(codes, others).detach().topk(5, largest=False).indices
    delta = torch.sqrt((codes[:, None] - others[order]).pow(2).sum(dim=2) + 1e-6)
    same = similar.gather(1, order)
    nu = delta.masked_fill(same, math.inf).min(dim=1).values
    delta, same = delta[:, :4], same[:, :4]
    scale = torch.maximum(nu, delta.max(dim=1).values)
    ratio = torch.where(same, delta / scale[:, None], 0).sum(dim=1)
    alike, unlike = same.sum(dim=1), (~same).sum(dim=1)
    far = torch.where(same, 0, delta)
    compact = 1 - (ratio / alike)[alike > 0].mean()
    separate = (far.sum(dim=1) / unlike)[unlike > 0].mean() / far.max()
    return -torch.log(0.5 * (0.5 * (compact + separate) + (alike / 4).mean()))


def rank_consistency(codes: Codes, others: Codes, similar: Pairs) -> Scalar:
    """Computes RCDH's hinge on the mean distances of similar and of dissimilar columns."""
    distances = 0.5 * (1 - codes @ others.T / codes.shape[1])
    near, far = (
        torch.where(kind, distances, 0).sum(dim=1) / kind.sum(dim=1) for kind in (similar, ~similar)
    )
    return torch.relu(near - far).mean()


def multilevel_means(codes: Codes, others: Codes, similarity: Pairs) -> Scalar:
    """Computes RMSH's hinge of the means of five levels."""
    distances = 0.5 * (codes.shape[1] - codes @ others.T)
    level = torch.round(4 * similarity)
    members = torch.stack([level == number for number in range(5)], dim=1).to(codes.dtype)
    count = members.sum(dim=2)
    distance, mean = (
        (members * x[:, None]).sum(dim=2) / count.clamp(min=1) for x in (distances, similarity)
    )
    gap = mean[:, :, None] - mean[:, None, :]
    hinge = torch.relu(distance[:, :, None] - distance[:, None, :] + 8 * gap)
    present = count > 0
    pairs = present[:, :, None] & present[:, None, :] & torch.ones(5, 5).tril(-1).bool()
    return hinge[pairs].mean()


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
        anchor_attraction,
        proto_triplet,
        icnn,
        rank_consistency,
        multilevel_means,
    )
}


#: Arguments that are functions of the codes, and so have a gradient: see `LabeledCodes`.
OF_CODES: dict[str, Callable[[Codes], Codes]] = {
    "others": lambda codes: codes,
    "view": lambda codes: 0.5 * codes + 0.25,
    "negatives": lambda codes: torch.stack(
        [torch.roll(codes, -shift, dims=0) for shift in range(1, NEGATIVES + 1)], dim=1
    ),
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

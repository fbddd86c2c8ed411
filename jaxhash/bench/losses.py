"""The losses that can be timed, as functions of codes, key and the name of a mapped axis."""

import importlib.util
import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int, Key, Shaped

from jaxhash import losses

Loss = Callable[[Float[Array, "n bits"], Key[Array, ""], str | None], Float[Array, ""]]

#: Name of the paper's released HSWD in PyTorch; see `jaxhash.bench.torch_hswd`.
TORCH = "torch"
#: What the name of a loss begins with that is timed in PyTorch; see `jaxhash.bench.torch_losses`.
TORCH_PREFIX = "torch:"
#: Public losses that have a plain form in PyTorch.
TORCH_FORMS = (
    "semantic_consistency",
    "bpr",
    "interaction_cross_entropy",
    "psh_pairs",
    "propagated_cross_entropy",
    "anchor_attraction",
    "proto_triplet",
    "icnn",
    "rank_consistency",
    "multilevel_means",
)
#: Name of HSWD by its Pallas kernel, which searches the batch of one device.
KERNEL = "kernel"
#: Number of classes that the random labels have.
CLASSES = 10
#: Number of items that a row has not chosen.
NEGATIVES = 10


class LabeledCodes(NamedTuple):
    """One device's codes with random labels, the same however many devices share the batch."""

    codes: Float[Array, "n bits"]
    key: Key[Array, ""]
    axis_name: str | None

    @property
    def others(self) -> Float[Array, "m bits"]:
        """The codes of all devices."""
        if self.axis_name is None:
            return self.codes
        return lax.all_gather(self.codes, self.axis_name, tiled=True)

    @property
    def ids(self) -> Int[Array, " n"]:
        """The class of each row."""
        return self._own_rows(self._all_ids)

    @property
    def labels(self) -> Float[Array, "n classes"]:
        """The class of each row as a multi-hot row."""
        return jax.nn.one_hot(self.ids, CLASSES)

    @property
    def logits(self) -> Float[Array, "n classes"]:
        """Random scores of the classes."""
        return self._own_rows(self._normal(3, CLASSES))

    @property
    def similar(self) -> Bool[Array, "n m"]:
        """Whether a row and a code of ``others`` have the same class."""
        return self.ids[:, None] == self._all_ids[None, :]

    @property
    def levels(self) -> Float[Array, "n m"]:
        """Similarity of 0 to 1 by how near the numbers of two classes are."""
        apart = jnp.abs(self.ids[:, None] - self._all_ids[None, :])
        return 1 - apart / (CLASSES - 1)

    @property
    def signs(self) -> Float[Array, "n m"]:
        """Similarity of +1 in the same class and -1 else."""
        return jnp.where(self.similar, 1.0, -1.0)

    @property
    def distances(self) -> Float[Array, "classes classes"]:
        """Semantic distances of the classes, 1 between all of them."""
        return 1 - jnp.eye(CLASSES)

    @property
    def class_codes(self) -> Float[Array, "classes bits"]:
        """A code of random signs for each class."""
        shape = (CLASSES, self.codes.shape[1])
        return jax.random.rademacher(jax.random.fold_in(self.key, 1), shape, self.codes.dtype)

    @property
    def kernel(self) -> Float[Array, "bits classes"]:
        """A linear classifier."""
        return self.class_codes.T

    @property
    def targets(self) -> Float[Array, "n bits"]:
        """The code of the class of each row."""
        return self.class_codes[self.ids]

    @property
    def view(self) -> Float[Array, "n bits"]:
        """Codes of a second view of each row."""
        return 0.5 * self.codes + 0.25

    @property
    def negatives(self) -> Float[Array, "n m bits"]:
        """Codes of ten items that each row has not chosen: those of the next ten rows."""
        others = self.others
        rolled = (jnp.roll(others, -shift, axis=0) for shift in range(1, NEGATIVES + 1))
        return jnp.stack([self._own_rows(each) for each in rolled], axis=1)

    @property
    def _all_ids(self) -> Int[Array, " m"]:
        return jax.random.randint(self.key, (self._all_rows,), 0, CLASSES)

    @property
    def _all_rows(self) -> int:
        devices = 1 if self.axis_name is None else lax.axis_size(self.axis_name)
        return devices * len(self.codes)

    def _normal(self, number: int, *shape: int) -> Float[Array, "m ..."]:
        """Draws a row for each code of all devices."""
        key = jax.random.fold_in(self.key, number)
        return jax.random.normal(key, (self._all_rows, *shape), self.codes.dtype)

    def _own_rows(self, rows: Shaped[Array, "m ..."]) -> Shaped[Array, "n ..."]:
        """Returns this device's part of the rows of all devices."""
        number = len(self.codes)
        start = 0 if self.axis_name is None else number * lax.axis_index(self.axis_name)
        return lax.dynamic_slice_in_dim(rows, start, number)


def _on(loss: Callable, *properties: str, **options: Any) -> Loss:
    """Returns a loss as a function of codes and key; its other arguments are of `LabeledCodes`."""
    is_random = "key" in inspect.signature(loss).parameters

    def on_codes(codes, key, axis_name):
        batch = LabeledCodes(codes, key, axis_name)
        arguments = (getattr(batch, name) for name in properties)
        random = {"key": key} if is_random else {}
        return loss(codes, *arguments, axis_name=axis_name, **random, **options)

    return on_codes


def _hashnet(
    codes: Float[Array, "n bits"], key: Key[Array, ""], axis_name: str | None
) -> Float[Array, ""]:
    """Computes HashNet's loss over all pairs of the relaxed codes."""
    scale = 10 / codes.shape[1]
    return _on(losses.hashnet, "others", "similar", scale=scale)(jnp.tanh(codes), key, axis_name)


#: Public losses by the arguments that they take beside the codes.
_BY_ARGUMENTS: dict[tuple[str, ...], tuple[Callable, ...]] = {
    (): (
        losses.decorrelated_hswd,
        losses.parity_hswd,
        losses.l1_quantization,
        losses.cubic_quantization,
        losses.log_cosh_quantization,
        losses.cauchy_quantization,
        losses.cosine_quantization,
        losses.gaussian_bce_quantization,
        losses.bernoulli_kl,
        losses.bernoulli_kl_per_code,
        losses.bit_balance_penalty,
        losses.bit_decorrelation,
        losses.variance_shortfall,
        losses.koleo,
        losses.nearest_neighbor_kl,
        losses.sinkhorn,
    ),
    ("others",): (losses.lcdsh_locality,),
    ("others", "similar"): (
        losses.mean_likelihood,
        losses.idhn,
        losses.dch,
        losses.dsh,
        losses.qsmi,
        losses.wglhh,
        losses.dtsh,
        losses.mihash,
        losses.tie_aware_ap,
        losses.pair_scatter,
        losses.asymmetric_dsh,
        losses.icnn,
        losses.rank_consistency,
    ),
    ("others", "signs"): (losses.cosine_regression, losses.semantic_structure),
    ("others", "signs", "similar"): (losses.semantic_consistency,),
    ("distances", "ids"): (losses.semantic_similarity,),
    ("labels",): (losses.proto_triplet, losses.psh_pairs),
    ("logits", "labels"): (losses.propagated_cross_entropy,),
    ("kernel", "ids"): (losses.linear_cross_entropy,),
    ("class_codes", "labels"): (losses.orthohash, losses.hash_proxy, losses.anchor_attraction),
    ("targets",): (losses.csq, losses.dpn, losses.distance_to_codes),
    ("view", "negatives"): (losses.bpr, losses.interaction_cross_entropy),
    ("view",): (losses.nt_xent, losses.view_divergence, losses.cosine_distillation),
}

#: Losses that have no default of an option: their arguments beside the codes, and the option.
_WITH_OPTIONS: dict[Callable, tuple[tuple[str, ...], dict[str, Any]]] = {
    losses.hyp2_pairs: (("others", "similar"), {"threshold": 0.1}),
    losses.hyp2_proxies: (("class_codes", "labels"), {"threshold": 0.1}),
    losses.multilevel_triplet: (("others", "levels"), {"radius": 8.0}),
    losses.multilevel_means: (("others", "levels"), {"radius": 8.0}),
}

#: Arguments beside the codes, which are properties of `LabeledCodes`, of the losses in the tables.
ARGUMENTS = {
    loss.__name__: properties
    for properties, functions in _BY_ARGUMENTS.items()
    for loss in functions
} | {loss.__name__: properties for loss, (properties, _) in _WITH_OPTIONS.items()}

#: All losses by name, except `TORCH` and those with `TORCH_PREFIX`.
LOSSES: dict[str, Loss] = {
    "select": _on(losses.hswd, method="select"),
    "sort": _on(losses.hswd, method="sort"),
    "l2": _on(losses.l2_quantization),
    "swd": _on(losses.sliced_wasserstein),
    "ot": _on(losses.optimal_transport),
    "hashnet": _hashnet,
    KERNEL: _on(losses.hswd, method="kernel"),
    **{
        loss.__name__: _on(loss, *properties, **options)
        for loss, (properties, options) in _WITH_OPTIONS.items()
    },
    **{
        loss.__name__: _on(loss, *properties)
        for properties, functions in _BY_ARGUMENTS.items()
        for loss in functions
    },
}


def is_torch(name: str) -> bool:
    """Returns whether a loss of this name is computed by PyTorch."""
    return name == TORCH or name.startswith(TORCH_PREFIX)


def has_torch() -> bool:
    """Returns whether PyTorch is installed, without importing it."""
    return importlib.util.find_spec("torch") is not None

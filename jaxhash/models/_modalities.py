"""Encoders for items of several modalities: one for each."""

from collections.abc import Callable, Mapping
from itertools import permutations

import flax.linen as nn
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Shaped

#: Begins the names of the encoders in the parameters, so that an optimizer knows them.
MODALITY_PREFIX = "modality_"


class Modalities(nn.Module):
    """An encoder for each modality of an item, from a dict of inputs to a tuple of codes.

    The codes are in the order of the sorted names. The parameters of the encoder of ``title`` have the
    name ``modality_title``; encoders share none.

    Attributes:
        encoders: factory of the encoder of each modality, called with ``axis_name`` and ``name``: a
            ``functools.partial`` of `Encoder`.
        axis_name: mapped axis over which the batch is sharded; passed to the encoders.

    Example:
        >>> import jax
        >>> from functools import partial
        >>> from jaxhash.models import Encoder, MLP
        >>> encoder = partial(Encoder, MLP, bits=4)
        >>> model = Modalities({"title": encoder, "body": encoder})
        >>> inputs = {"title": np.ones((2, 5), np.float32), "body": np.ones((2, 9), np.float32)}
        >>> codes, variables = model.init_with_output(jax.random.key(0), inputs)
        >>> [code.shape for code in codes], sorted(variables["params"])
        ([(2, 4), (2, 4)], ['modality_body', 'modality_title'])
    """

    encoders: Mapping[str, Callable[..., nn.Module]]
    axis_name: str | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """The modalities, in the order of their codes."""
        return tuple(sorted(self.encoders))

    @property
    def ways(self) -> tuple[tuple[str, str], ...]:
        """The ways to search: the modality of the queries and that of the database."""
        return tuple(permutations(self.names, 2))

    @nn.compact
    def __call__(
        self,
        inputs: Mapping[str, Shaped[Array | np.ndarray, "n ..."]],
        *,
        train: bool = False,
        mask: Bool[Array | np.ndarray, " n"] | None = None,
        return_features: bool = False,
        rows: Int[Array | np.ndarray, " n"] | None = None,
    ) -> tuple[Float[Array, "n _"], ...]:
        """Computes the codes of each modality before binarization.

        Args:
            inputs: a batch [n, ...] of each modality.
            train: as in `Encoder`.
            mask: likewise.
            return_features: likewise.
            rows: likewise.
        """
        options = {"train": train, "mask": mask, "return_features": return_features, "rows": rows}
        return tuple(
            self.encoders[name](axis_name=self.axis_name, name=MODALITY_PREFIX + name)(
                inputs[name], **options
            )
            for name in self.names
        )

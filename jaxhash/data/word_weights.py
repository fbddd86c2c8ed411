"""The weights of words (tf-idf) that belong to a model of word counts, and how they are applied."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float32

from jaxhash.utils.errors import UserError


@dataclasses.dataclass(frozen=True)
class WordWeights:
    """In how many training documents each word occurs, from which tf-idf rows follow.

    Attributes:
        documents: number of training documents, n.
        frequencies: number of them that hold each word, df.
        vocabulary: the words, in the order of the columns.
    """

    documents: int
    frequencies: tuple[int, ...]
    vocabulary: tuple[str, ...]

    @property
    def idf(self) -> Float32[np.ndarray, " words"]:
        r"""The inverse document frequencies, :math:`\log\frac{1 + n}{1 + \mathrm{df}} + 1`."""
        found = np.log((1 + self.documents) / (1 + np.array(self.frequencies, np.float64))) + 1
        return found.astype(np.float32)

    def apply(self, counts: Float[np.ndarray | Array, "... words"]) -> Any:
        r"""Returns tf-idf rows of length 1 from word counts, of NumPy or JAX.

        .. math:: x_w \propto \mathbf 1[c_w > 0]\, (1 + \log c_w)\, \mathrm{idf}_w,
                  \qquad \|x\| = 1

        These are the weights of scikit-learn's ``TfidfTransformer(sublinear_tf=True)``. A document
        without words is a row of zeros; a negative count is none.

        Example:
            >>> weights = WordWeights(3, (3, 0), ("the", "hash"))
            >>> weights.apply(np.array([[1, 0], [0, 7], [0, 0]], np.float32))
            array([[1., 0.],
                   [0., 1.],
                   [0., 0.]], dtype=float32)
        """
        xp = jnp if isinstance(counts, jax.Array) else np
        held = counts > 0
        weighted = xp.where(held, 1 + xp.log(xp.where(held, counts, 1)), 0) * self.idf.reshape(
            (1,) * (counts.ndim - 1) + (-1,)
        )
        length = xp.sqrt(xp.sum(weighted * weighted, axis=-1, keepdims=True))
        return weighted / xp.where(length > 0, length, 1)

    def check_vocabulary(self, vocabulary: tuple[str, ...], where: Any) -> None:
        """Raises a `UserError` unless the words of some counts are those of the weights, in order."""
        if vocabulary == self.vocabulary:
            return
        if len(vocabulary) != len(self.vocabulary):
            raise UserError(
                f"{where}: the model takes counts of {len(self.vocabulary):,} words, and these are of "
                f"{len(vocabulary):,}"
            )
        pairs = zip(vocabulary, self.vocabulary, strict=True)
        column, (found, expected) = next(
            (column, pair) for column, pair in enumerate(pairs) if pair[0] != pair[1]
        )
        raise UserError(
            f"{where}: the model counts {expected!r} in column {column:,}, and the vocabulary has "
            f"{found!r} there"
        )

    def to_json(self) -> dict[str, Any]:
        """Returns the fields as JSON values."""
        return {
            "documents": self.documents,
            "frequencies": list(self.frequencies),
            "vocabulary": list(self.vocabulary),
        }

    @classmethod
    def from_json(cls, content: Any) -> "WordWeights":
        """Undoes `to_json`.

        Raises:
            ValueError: if a field is missing, unknown or of another type.
        """
        names = [field.name for field in dataclasses.fields(cls)]
        if not isinstance(content, dict) or sorted(content) != sorted(names):
            raise ValueError(f"word weights must be an object of {', '.join(names)}")
        documents, frequencies, vocabulary = (content[name] for name in names)
        fits = (
            type(documents) is int
            and isinstance(frequencies, list)
            and isinstance(vocabulary, list)
            and len(frequencies) == len(vocabulary)
            and all(type(number) is int and 0 <= number <= documents for number in frequencies)
            and all(isinstance(word, str) for word in vocabulary)
        )
        if not fits:
            raise ValueError("word weights are of other types, or do not fit together")
        return cls(documents, tuple(frequencies), tuple(vocabulary))

"""Small backbones for 28x28 and 32x32 images, and for feature vectors."""

from collections.abc import Iterator
from functools import partial
from typing import Any

import flax.linen as nn
from jaxtyping import Array, Bool, Float

from jaxhash.models._base import Backbone, Block
from jaxhash.models._fully_connected import FullyConnected


class Convolution(Block):
    """A 3x3 convolution of stride 2 with batch normalization and a ReLU."""

    width: int

    @nn.compact
    def __call__(
        self, x: Float[Array, "n h w c"], train: bool, mask: Bool[Array, " n"] | None
    ) -> Float[Array, "n h2 w2 width"]:
        x = self.conv(self.width, 3, stride=2, padding="SAME", name="conv")(x)
        return nn.relu(self.batch_norm(name="norm")(x, train=train, mask=mask))


class Dense(Block):
    """A linear layer on flattened inputs with batch normalization and a ReLU."""

    width: int

    @nn.compact
    def __call__(
        self, x: Float[Array, "n ..."], train: bool, mask: Bool[Array, " n"] | None
    ) -> Float[Array, "n width"]:
        x = self.dense(self.width, bias=False, name="dense")(x.reshape(x.shape[0], -1))
        return nn.relu(self.batch_norm(name="norm")(x, train=train, mask=mask))


class CNN(Backbone):
    """A small convolutional network of strided convolutions with flattened features.

    Attributes:
        widths: channels of the convolutions; each is a stage and halves the resolution.
    """

    widths: tuple[int, ...] = (32, 64, 128)

    def stages(self) -> Iterator[list[partial[Block]]]:
        """Yields one stage per convolution."""
        for width in self.widths:
            yield [partial(Convolution, width=width)]

    def readout(self, x: Float[Array, "n h w c"]) -> Float[Array, "n features"]:
        """Returns all positions, flattened, or logits of them."""
        x = x.reshape(x.shape[0], -1)
        return x if self.classes is None else self.classify(x)


class MLP(Backbone):
    """Dense layers on flattened inputs, each with batch normalization and a ReLU.

    Attributes:
        widths: width of each layer; each is a stage.
    """

    widths: tuple[int, ...] = (256,)

    def stages(self) -> Iterator[list[partial[Block]]]:
        """Yields one stage per layer."""
        for width in self.widths:
            yield [partial(Dense, width=width)]

    def readout(self, x: Float[Array, "n ..."]) -> Float[Array, "n features"]:
        """Returns the activations of the last layer, or the flattened inputs; or logits."""
        x = x.reshape(x.shape[0], -1)
        return x if self.classes is None else self.classify(x)


class TextMLP(Backbone):
    """Dense layers with ReLUs, without normalization, and dropout on the last: for rows of documents.

    It is the encoder of variational hashing of documents: two layers of 500 units and dropout of 0.2
    in Dadaneh et al., "Pairwise Supervised Hashing with Bernoulli Variational Auto-Encoder", UAI 2020.

    Attributes:
        widths: width of each layer; each is a stage.
        dropout: rate of dropout on the result of the last layer.
    """

    widths: tuple[int, ...] = (500, 500)
    dropout: float = 0.2

    def stages(self) -> Iterator[list[partial[Block]]]:
        """Yields one stage per layer."""
        for number, width in enumerate(self.widths, 1):
            rate = self.dropout if number == len(self.widths) else 0.0
            yield [partial(FullyConnected, width=width, dropout_after=rate)]

    def readout(self, x: Float[Array, "n ..."]) -> Float[Array, "n features"]:
        """Returns the activations of the last layer, or logits of them."""
        return x if self.classes is None else self.classify(x)


def text_mlp(**options: Any) -> TextMLP:
    """The encoder of documents, by the name of the command line."""
    return TextMLP(**options)


def linear(**options: Any) -> MLP:
    """An MLP without layers: features are the inputs, and a hash head makes it linear hashing."""
    return MLP(widths=(), **options)

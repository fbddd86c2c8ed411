"""Vision transformers."""

from collections.abc import Iterator
from functools import partial
from typing import Any, Literal, get_args

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from jaxhash.models._base import Backbone, Block
from jaxhash.models._names import (
    Names,
    Tensor,
    matrix,
    merge,
    pytorch_convolution,
    pytorch_dense,
    pytorch_norm,
    same,
)
from jaxhash.models._preprocessing import CENTRED_RGB, IMAGENET, Preprocessing

Pool = Literal["token", "mean"]
Positions = Literal["learned", "sincos2d"]
Gelu = Literal["erf", "tanh"]


class Patches(Block):
    """Tokens of an image: a linear map of each patch, the class token, and their positions."""

    width: int
    patch: int
    token: bool
    positions: Positions

    @nn.compact
    def __call__(
        self, x: Float[Array, "n h w c"], train: bool, mask: Bool[Array, " n"] | None
    ) -> Float[Array, "n tokens width"]:
        height, width = x.shape[1:3]
        if height % self.patch or width % self.patch:
            raise ValueError(
                f"height and width of images must be multiples of {self.patch}, got "
                f"{height} x {width}"
            )
        x = self.conv(self.width, self.patch, stride=self.patch, bias=True, name="patches")(x)
        grid = x.shape[1:3]
        x = x.reshape(len(x), -1, self.width)
        if self.token:
            zeros = nn.initializers.zeros_init()
            token = self.param("class_token", zeros, (1, 1, self.width), self.param_dtype)
            token = jnp.broadcast_to(token.astype(x.dtype), (len(x), 1, self.width))
            x = jnp.concatenate([token, x], axis=1)
        if self.positions == "learned":
            normal = nn.initializers.normal(0.02)
            positions = self.param("positions", normal, (1, *x.shape[1:]), self.param_dtype)
        else:
            positions = sincos2d(*grid, self.width)
            positions = jnp.pad(positions, ((0, 0), (int(self.token), 0), (0, 0)))
        return x + positions.astype(x.dtype)


class TransformerBlock(Block):
    """Attention and a two-layer perceptron, each on the normalized input, which is added."""

    heads: int
    gelu: Gelu

    @nn.compact
    def __call__(
        self, x: Float[Array, "n tokens width"], train: bool, mask: Bool[Array, " n"] | None
    ) -> Float[Array, "n tokens width"]:
        width = x.shape[-1]
        y = self.layer_norm(name="norm1")(x)
        query, key, value = (
            self.dense(width, name=name)(y).reshape(*y.shape[:2], self.heads, -1)
            for name in ("query", "key", "value")
        )
        y = jax.nn.dot_product_attention(query, key, value).reshape(x.shape)
        x = x + self.dense(width, name="out")(y)
        y = self.layer_norm(name="norm2")(x)
        y = nn.gelu(self.dense(4 * width, name="mlp1")(y), approximate=self.gelu == "tanh")
        return x + self.dense(width, name="mlp2")(y)


class ViT(Backbone, kw_only=True):
    """A vision transformer: patches, then blocks with the normalization in front.

    Features are the class token after the last normalization, or the mean of the normalized tokens
    of a network without class token. The patches are stage 0, each block is a stage; the
    parameters of the last normalization belong to none. A network is made for one size of images,
    that of its position embeddings: weights for another size are not resampled.

    The defaults are those of torchvision's weights. Other weights want other options:

    - timm's ports of AugReg: ``preprocessing=CENTRED``; DeiT and DINO: none.
    - timm's without class token: ``pool="mean"``, unless they normalize after the mean (``fc_norm``).
    - AugReg's own .npz files (vit_jax): `vit_s16_flax` and `vit_b16_flax`, which have
      ``preprocessing=CENTRED, gelu="tanh"``.
    - big_vision's: the same, and for ViT-S/16 on ImageNet-1k ``pool="mean"`` and
      ``positions="sincos2d"``, without classes: its classifier has a hidden layer ("pre_logits").

    Dropout, which is 0 in torchvision's and timm's networks, and the originals' initialization of
    the matrices (Xavier, here Linen's) are left out.

    Attributes:
        width: length of a token.
        depth: number of blocks.
        heads: number of attention heads.
        patch: height and width of a patch.
        pool: whether there is a class token, or the mean of all others instead.
        positions: embeddings that are learned, or fixed sines and cosines.
        gelu: with the error function itself, or Linen's default, an approximation by tanh.

    Reference:
        Dosovitskiy et al., "An image is worth 16x16 words: transformers for image recognition at
        scale", ICLR 2021; Steiner et al., "How to train your ViT?", TMLR 2022 (AugReg, S/16);
        Beyer, Zhai, Kolesnikov, "Better plain ViT baselines for ImageNet-1k", 2022 (mean, sincos2d).
    """

    width: int
    depth: int
    heads: int
    patch: int = 16
    pool: Pool = "token"
    positions: Positions = "learned"
    gelu: Gelu = "erf"
    preprocessing: Preprocessing = IMAGENET

    def stages(self) -> Iterator[list[partial[Block]]]:
        """The patches, then a block each.

        Raises:
            ValueError: if an option has a value that is none of its own.
        """
        for option, allowed in {"pool": Pool, "positions": Positions, "gelu": Gelu}.items():
            if getattr(self, option) not in get_args(allowed):
                raise ValueError(
                    f"{option} must be one of {get_args(allowed)}, got {getattr(self, option)!r}"
                )
        yield [
            partial(
                Patches,
                width=self.width,
                patch=self.patch,
                token=self.pool == "token",
                positions=self.positions,
            )
        ]
        for _ in range(self.depth):
            yield [partial(TransformerBlock, heads=self.heads, gelu=self.gelu)]

    def readout(self, x: Float[Array, "n tokens width"]) -> Float[Array, "n features"]:
        """The class token normalized, or the mean of the normalized tokens; or logits of them."""
        norm = self.layer_norm(name="encoder_norm")
        features = norm(x[:, 0]) if self.pool == "token" else norm(x).mean(axis=1)
        return features if self.classes is None else self.classify(features)

    def weight_names(self) -> dict[str, Names]:
        """The names of torchvision, timm, big_vision and vit_jax (AugReg).

        torchvision renamed the layers of its perceptron; ``"torchvision_v1"`` are the names before
        that, which its published files have. big_vision's files have each name with or without
        ``params/`` in front. Its class token has no position, which is a position of zeros.
        """
        torchvision = partial(
            self._pytorch_names,
            patches="conv_proj",
            token="class_token",
            positions="encoder.pos_embedding",
            block="encoder.layers.encoder_layer_{}.",
            norms=("ln_1", "ln_2"),
            qkv="self_attention.in_proj_{}",
            out="self_attention.out_proj",
            norm="encoder.ln",
            head="heads.head",
        )
        timm = self._pytorch_names(
            patches="patch_embed.proj",
            token="cls_token",
            positions="pos_embed",
            block="blocks.{}.",
            norms=("norm1", "norm2"),
            qkv="attn.qkv.{}",
            out="attn.proj",
            mlp=("mlp.fc1", "mlp.fc2"),
            norm="norm",
            head="head",
        )
        big_vision = self._flax_names(
            positions=Tensor("pos_embedding", self._after_token),
            attention="MultiHeadDotProductAttention_0",
            norms=("LayerNorm_0", "LayerNorm_1"),
            mlp="MlpBlock_0",
        )
        vit_jax = self._flax_names(
            positions=Tensor("Transformer/posembed_input/pos_embedding", same),
            attention="MultiHeadDotProductAttention_1",
            norms=("LayerNorm_0", "LayerNorm_2"),
            mlp="MlpBlock_3",
        )
        return {
            "torchvision": torchvision(mlp=("mlp.0", "mlp.3")),
            "torchvision_v1": torchvision(mlp=("mlp.linear_1", "mlp.linear_2")),
            "timm": timm,
            "big_vision": big_vision,
            "big_vision_params": {
                ours: Tensor(f"params/{name}", transform)
                for ours, (name, transform) in big_vision.items()
            },
            "vit_jax": vit_jax,
        }

    def _pytorch_names(
        self, *, patches, token, positions, block, norms, qkv, out, mlp, norm, head
    ) -> Names:
        names = [
            pytorch_convolution("stage0_0/patches", patches, bias=True),
            self._tokens(Tensor(token, same), Tensor(positions, same)),
            pytorch_norm("encoder_norm", norm),
            pytorch_dense("classifier", head),
        ]
        for i in range(self.depth):
            ours, theirs = f"stage{i + 1}_0", block.format(i)
            names += [
                pytorch_norm(f"{ours}/norm1", theirs + norms[0]),
                pytorch_dense(f"{ours}/out", theirs + out),
                pytorch_norm(f"{ours}/norm2", theirs + norms[1]),
                pytorch_dense(f"{ours}/mlp1", theirs + mlp[0]),
                pytorch_dense(f"{ours}/mlp2", theirs + mlp[1]),
            ]
            weight, bias = (theirs + qkv.format(kind) for kind in ("weight", "bias"))
            for third, name in enumerate(("query", "key", "value")):
                names.append(
                    {
                        f"params/{ours}/{name}/kernel": Tensor(
                            weight, lambda array, third=third: matrix(_third(array, third))
                        ),
                        f"params/{ours}/{name}/bias": Tensor(bias, partial(_third, third=third)),
                    }
                )
        return merge(*names)

    def _flax_names(self, *, positions, attention, norms, mlp) -> Names:
        names = [
            _flax("stage0_0/patches", "embedding"),
            self._tokens(Tensor("cls", same), positions),
            _flax("encoder_norm", "Transformer/encoder_norm", kernel="scale"),
            _flax("classifier", "head"),
        ]
        for i in range(self.depth):
            ours, theirs = f"stage{i + 1}_0", f"Transformer/encoderblock_{i}"
            names += [
                _flax(f"{ours}/norm1", f"{theirs}/{norms[0]}", kernel="scale"),
                _flax(f"{ours}/out", f"{theirs}/{attention}/out", _joined_in),
                _flax(f"{ours}/norm2", f"{theirs}/{norms[1]}", kernel="scale"),
                _flax(f"{ours}/mlp1", f"{theirs}/{mlp}/Dense_0"),
                _flax(f"{ours}/mlp2", f"{theirs}/{mlp}/Dense_1"),
            ]
            for name in ("query", "key", "value"):
                names.append(
                    _flax(f"{ours}/{name}", f"{theirs}/{attention}/{name}", _joined_out, np.ravel)
                )
        return merge(*names)

    def _tokens(self, token: Tensor, positions: Tensor) -> Names:
        """The leaves that depend on the options."""
        names = {}
        if self.pool == "token":
            names["params/stage0_0/class_token"] = token
        if self.positions == "learned":
            names["params/stage0_0/positions"] = positions
        return names

    def _after_token(self, array):
        return np.pad(array, ((0, 0), (1, 0), (0, 0))) if self.pool == "token" else array


def sincos2d(height: int, width: int, features: int) -> Float[Array, "1 positions features"]:
    """Position embeddings of a grid: sines and cosines of each column, then of each row.

    The frequencies fall from 1 to 1/10,000 geometrically.

    Example:
        >>> np.asarray(sincos2d(2, 2, 4))[0, 1].round(2)  # row 0, column 1
        array([0.84, 0.54, 0.  , 1.  ], dtype=float32)

    Raises:
        ValueError: if the number of features is no multiple of 4.

    Reference:
        Chen, Xie, He, "An empirical study of training self-supervised vision transformers", ICCV
        2021 (MoCo v3); the order is big_vision's ``posemb_sincos_2d``.
    """
    if features % 4:
        raise ValueError(f"features must be a multiple of 4, got {features}")
    count = features // 4
    frequencies = 10_000.0 ** -(np.arange(count) / max(count - 1, 1))
    rows, columns = np.mgrid[:height, :width].reshape(2, -1, 1) * frequencies
    parts = [np.sin(columns), np.cos(columns), np.sin(rows), np.cos(rows)]
    return jnp.asarray(np.concatenate(parts, axis=1)[None], jnp.float32)


def vit_s16(**options: Any) -> ViT:
    """ViT-S/16: 22,050,664 parameters with 1,000 classes; 384 features."""
    return ViT(width=384, depth=12, heads=6, **options)


def vit_b16(**options: Any) -> ViT:
    """ViT-B/16: 86,567,656 parameters with 1,000 classes; 768 features."""
    return ViT(width=768, depth=12, heads=12, **options)


def vit_s16_flax(*, preprocessing: Preprocessing = CENTRED_RGB, **options: Any) -> ViT:
    """ViT-S/16 for the .npz files of AugReg and big_vision: their preprocessing and their GELU."""
    return vit_s16(gelu="tanh", preprocessing=preprocessing, **options)


def vit_b16_flax(*, preprocessing: Preprocessing = CENTRED_RGB, **options: Any) -> ViT:
    """ViT-B/16 for the .npz files of AugReg and big_vision, likewise."""
    return vit_b16(gelu="tanh", preprocessing=preprocessing, **options)


def _third(array, third):
    """Query, key or value of PyTorch's fused tensors."""
    return array.reshape(3, -1, *array.shape[1:])[third]


def _joined_out(array):
    """Matrices to the heads, [width, heads, width of a head], as one."""
    return array.reshape(len(array), -1)


def _joined_in(array):
    """Matrices from the heads, [heads, width of a head, width], as one."""
    return array.reshape(-1, *array.shape[2:])


def _flax(ours, theirs, transform=same, bias=same, *, kernel="kernel") -> Names:
    """The leaves of a layer of Flax."""
    return {
        f"params/{ours}/{kernel}": Tensor(f"{theirs}/{kernel}", transform),
        f"params/{ours}/bias": Tensor(f"{theirs}/bias", bias),
    }

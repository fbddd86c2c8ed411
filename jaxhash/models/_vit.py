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
from jaxhash.models._preprocessing import CENTRED_RGB, IMAGENET, Preprocessing
from jaxhash.models._weight_names import (
    SourceTensor,
    WeightNames,
    identity,
    merge,
    pytorch_convolution,
    pytorch_dense,
    pytorch_norm,
    to_linen_dense,
)

Pool = Literal["token", "mean"]
Positions = Literal["learned", "sincos2d"]
Gelu = Literal["erf", "tanh"]


class Patches(Block):
    """Tokens of an image: a linear map of each patch, the class token, and position embeddings."""

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
        x = x.reshape(x.shape[0], -1, self.width)
        if self.token:
            zeros = nn.initializers.zeros_init()
            token = self.param("class_token", zeros, (1, 1, self.width), self.param_dtype)
            token = jnp.broadcast_to(token.astype(x.dtype), (x.shape[0], 1, self.width))
            x = jnp.concatenate([token, x], axis=1)
        if self.positions == "learned":
            normal = nn.initializers.normal(0.02)
            positions = self.param("positions", normal, (1, *x.shape[1:]), self.param_dtype)
        else:
            positions = sincos2d(*grid, self.width)
            positions = jnp.pad(positions, ((0, 0), (int(self.token), 0), (0, 0)))
        return x + positions.astype(x.dtype)


class TransformerBlock(Block):
    """Attention and a two-layer MLP, each on normalized inputs and with a residual connection."""

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

    Features are the class token after the last normalization, or, without a class token, the mean
    of the normalized tokens. The patches are stage 0, and each block is a stage; the last
    normalization belongs to no stage. A network has one image size, that of its position
    embeddings: weights for another size are not resampled.

    The defaults are those of torchvision's weights. Other weights need other options:

    - timm's ports of AugReg: ``preprocessing=CENTRED``; DeiT and DINO: none.
    - timm's without class token: ``pool="mean"``, except those that normalize after the mean
      (``fc_norm``).
    - AugReg's own .npz files (vit_jax): `vit_s16_flax` and `vit_b16_flax`, which have
      ``preprocessing=CENTRED, gelu="tanh"``.
    - big_vision's: the same, and for ViT-S/16 on ImageNet-1k ``pool="mean"`` and
      ``positions="sincos2d"``, without classes: its classifier has a hidden layer ("pre_logits").

    Dropout, which is 0 in torchvision's and timm's networks, is omitted. Matrices have Linen's
    initialization, not the original Xavier.

    Attributes:
        width: length of a token.
        depth: number of blocks.
        heads: number of attention heads.
        patch: height and width of a patch.
        pool: features from the class token, or from the mean of all tokens without one.
        positions: learned position embeddings, or fixed sines and cosines.
        gelu: exact, with the error function, or Linen's default approximation with tanh.

    Reference:
        Dosovitskiy et al., "An image is worth 16x16 words: transformers for image recognition at
        scale", ICLR 2021; Steiner et al., "How to train your ViT?", TMLR 2022 (AugReg, S/16);
        Beyer, Zhai, Kolesnikov, "Better plain ViT baselines for ImageNet-1k", 2022 (mean,
        sincos2d).
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
        """Yields the patches, then one stage per block.

        Raises:
            ValueError: if an option has an unknown value.
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
        """Returns the normalized class token or the mean of the normalized tokens, or logits."""
        norm = self.layer_norm(name="encoder_norm")
        features = norm(x[:, 0]) if self.pool == "token" else norm(x).mean(axis=1)
        return features if self.classes is None else self.classify(features)

    def weight_names(self) -> dict[str, WeightNames]:
        """Returns the names of torchvision, timm, big_vision and vit_jax (AugReg).

        torchvision renamed the layers of its MLP; ``"torchvision_v1"`` has the names before that,
        which its published files use. Names in big_vision's files may start with ``params/``. Its
        class token has no position embedding, which equals an embedding of zeros.
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
            positions=SourceTensor("pos_embedding", self._after_token),
            attention="MultiHeadDotProductAttention_0",
            norms=("LayerNorm_0", "LayerNorm_1"),
            mlp="MlpBlock_0",
        )
        vit_jax = self._flax_names(
            positions=SourceTensor("Transformer/posembed_input/pos_embedding", identity),
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
                target: SourceTensor(f"params/{name}", transform)
                for target, (name, transform) in big_vision.items()
            },
            "vit_jax": vit_jax,
        }

    def _pytorch_names(
        self, *, patches, token, positions, block, norms, qkv, out, mlp, norm, head
    ) -> WeightNames:
        names = [
            pytorch_convolution("stage0_0/patches", patches, bias=True),
            self._tokens(SourceTensor(token, identity), SourceTensor(positions, identity)),
            pytorch_norm("encoder_norm", norm),
            pytorch_dense("classifier", head),
        ]
        for i in range(self.depth):
            target, source = f"stage{i + 1}_0", block.format(i)
            names += [
                pytorch_norm(f"{target}/norm1", source + norms[0]),
                pytorch_dense(f"{target}/out", source + out),
                pytorch_norm(f"{target}/norm2", source + norms[1]),
                pytorch_dense(f"{target}/mlp1", source + mlp[0]),
                pytorch_dense(f"{target}/mlp2", source + mlp[1]),
            ]
            weight, bias = (source + qkv.format(kind) for kind in ("weight", "bias"))
            for third, name in enumerate(("query", "key", "value")):
                names.append(
                    {
                        f"params/{target}/{name}/kernel": SourceTensor(
                            weight, lambda array, third=third: to_linen_dense(_third(array, third))
                        ),
                        f"params/{target}/{name}/bias": SourceTensor(
                            bias, partial(_third, third=third)
                        ),
                    }
                )
        return merge(*names)

    def _flax_names(self, *, positions, attention, norms, mlp) -> WeightNames:
        names = [
            _flax("stage0_0/patches", "embedding"),
            self._tokens(SourceTensor("cls", identity), positions),
            _flax("encoder_norm", "Transformer/encoder_norm", kernel="scale"),
            _flax("classifier", "head"),
        ]
        for i in range(self.depth):
            target, source = f"stage{i + 1}_0", f"Transformer/encoderblock_{i}"
            names += [
                _flax(f"{target}/norm1", f"{source}/{norms[0]}", kernel="scale"),
                _flax(f"{target}/out", f"{source}/{attention}/out", _merge_input_heads),
                _flax(f"{target}/norm2", f"{source}/{norms[1]}", kernel="scale"),
                _flax(f"{target}/mlp1", f"{source}/{mlp}/Dense_0"),
                _flax(f"{target}/mlp2", f"{source}/{mlp}/Dense_1"),
            ]
            for name in ("query", "key", "value"):
                names.append(
                    _flax(
                        f"{target}/{name}",
                        f"{source}/{attention}/{name}",
                        _merge_output_heads,
                        np.ravel,
                    )
                )
        return merge(*names)

    def _tokens(self, token: SourceTensor, positions: SourceTensor) -> WeightNames:
        """Maps the leaves that depend on the options."""
        names = {}
        if self.pool == "token":
            names["params/stage0_0/class_token"] = token
        if self.positions == "learned":
            names["params/stage0_0/positions"] = positions
        return names

    def _after_token(self, array):
        return np.pad(array, ((0, 0), (1, 0), (0, 0))) if self.pool == "token" else array


def sincos2d(height: int, width: int, features: int) -> Float[Array, "1 positions features"]:
    """Computes position embeddings of a grid: sines and cosines of the columns, then of the rows.

    The frequencies decrease geometrically from 1 to 1/10,000.

    Example:
        >>> np.asarray(sincos2d(2, 2, 4))[0, 1].round(2)  # row 0, column 1
        array([0.84, 0.54, 0.  , 1.  ], dtype=float32)

    Raises:
        ValueError: if the number of features is not a multiple of 4.

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
    """ViT-B/16 for the .npz files of AugReg and big_vision: their preprocessing and their GELU."""
    return vit_b16(gelu="tanh", preprocessing=preprocessing, **options)


def _third(array, third):
    """Returns the query, key or value part of PyTorch's fused tensors."""
    return array.reshape(3, -1, *array.shape[1:])[third]


def _merge_output_heads(array):
    """Reshapes [width, heads, width of a head] to a matrix."""
    return array.reshape(len(array), -1)


def _merge_input_heads(array):
    """Reshapes [heads, width of a head, width] to a matrix."""
    return array.reshape(-1, *array.shape[2:])


def _flax(target, source, transform=identity, bias=identity, *, kernel="kernel") -> WeightNames:
    """Maps the leaves of a Flax layer."""
    return {
        f"params/{target}/{kernel}": SourceTensor(f"{source}/{kernel}", transform),
        f"params/{target}/bias": SourceTensor(f"{source}/bias", bias),
    }

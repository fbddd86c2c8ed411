"""ViT and ConvNeXt against PyTorch, with weights in the names of torchvision and timm."""

from functools import partial

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the oracle is PyTorch, which is not installed")

from torch import nn  # noqa: E402

from jaxhash import models  # noqa: E402
from jaxhash.models._convnext import ConvNeXt  # noqa: E402
from jaxhash.models._vit import ViT  # noqa: E402

CLASSES = 7


class Attention(nn.Module):
    """Attention of timm, with one matrix for queries, keys and values."""

    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x):
        n, tokens, width = x.shape
        qkv = self.qkv(x).reshape(n, tokens, 3, self.heads, width // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        weights = (q @ k.transpose(-2, -1) * (width // self.heads) ** -0.5).softmax(-1)
        return self.proj((weights @ v).transpose(1, 2).reshape(n, tokens, width))


class MLP(nn.Module):
    def __init__(self, width, names):
        super().__init__()
        self.names = names
        self.add_module(names[0], nn.Linear(width, 4 * width))
        self.add_module(names[1], nn.Linear(4 * width, width))

    def forward(self, x):
        first, second = (getattr(self, name) for name in self.names)
        return second(nn.functional.gelu(first(x)))


class TorchvisionBlock(nn.Module):
    def __init__(self, width, heads, names):
        super().__init__()
        self.ln_1 = nn.LayerNorm(width, eps=1e-6)
        self.self_attention = nn.MultiheadAttention(width, heads, batch_first=True)
        self.ln_2 = nn.LayerNorm(width, eps=1e-6)
        self.mlp = MLP(width, names)

    def forward(self, x):
        y = self.ln_1(x)
        x = x + self.self_attention(y, y, y, need_weights=False)[0]
        return x + self.mlp(self.ln_2(x))


class TorchvisionViT(nn.Module):
    def __init__(self, width, depth, heads, size, names):
        super().__init__()
        self.conv_proj = nn.Conv2d(3, width, 16, 16)
        self.class_token = nn.Parameter(torch.zeros(1, 1, width))
        self.encoder = nn.Module()
        tokens = (size // 16) ** 2 + 1
        self.encoder.pos_embedding = nn.Parameter(torch.zeros(1, tokens, width))
        self.encoder.layers = nn.Sequential()
        for i in range(depth):
            block = TorchvisionBlock(width, heads, names)
            self.encoder.layers.add_module(f"encoder_layer_{i}", block)
        self.encoder.ln = nn.LayerNorm(width, eps=1e-6)
        self.heads = nn.Sequential()
        self.heads.add_module("head", nn.Linear(width, CLASSES))

    def forward(self, x):
        x = self.conv_proj(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.class_token.expand(len(x), -1, -1), x], dim=1)
        features = self.encoder.ln(self.encoder.layers(x + self.encoder.pos_embedding))[:, 0]
        return features, self.heads(features)


class TimmBlock(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=1e-6)
        self.attn = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width, eps=1e-6)
        self.mlp = MLP(width, ("fc1", "fc2"))

    def forward(self, x):
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class TimmViT(nn.Module):
    """ViT of timm, with ``global_pool="token"``, or "avg" without token and ``fc_norm=False``."""

    def __init__(self, width, depth, heads, size, token):
        super().__init__()
        self.patch_embed = nn.Module()
        self.patch_embed.proj = nn.Conv2d(3, width, 16, 16)
        self.token = token
        if token:
            self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Parameter(torch.zeros(1, (size // 16) ** 2 + token, width))
        self.blocks = nn.Sequential(*(TimmBlock(width, heads) for _ in range(depth)))
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.head = nn.Linear(width, CLASSES)

    def forward(self, x):
        x = self.patch_embed.proj(x).flatten(2).transpose(1, 2)
        if self.token:
            x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], dim=1)
        x = self.norm(self.blocks(x + self.pos_embed))
        features = x[:, 0] if self.token else x.mean(dim=1)
        return features, self.head(features)


class ChannelNorm(nn.LayerNorm):
    """A layer normalization over the channels of [n, c, h, w]."""

    def __init__(self, width):
        super().__init__(width, eps=1e-6)

    def forward(self, x):
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class ConvNeXtBlock(nn.Module):
    """Block of torchvision; timm only uses other names."""

    def __init__(self, width):
        super().__init__()
        self.block = nn.ModuleDict(
            {
                "0": nn.Conv2d(width, width, 7, padding=3, groups=width),
                "2": nn.LayerNorm(width, eps=1e-6),
                "3": nn.Linear(width, 4 * width),
                "5": nn.Linear(4 * width, width),
            }
        )
        self.layer_scale = nn.Parameter(torch.zeros(width, 1, 1))

    def forward(self, x):
        conv, norm, first, second = self.block.values()
        y = second(nn.functional.gelu(first(norm(conv(x).permute(0, 2, 3, 1)))))
        return x + self.layer_scale * y.permute(0, 3, 1, 2)


class TorchvisionConvNeXt(nn.Module):
    def __init__(self, sizes, widths):
        super().__init__()
        parts = [nn.Sequential(nn.Conv2d(3, widths[0], 4, 4), ChannelNorm(widths[0]))]
        for i, (size, width) in enumerate(zip(sizes, widths, strict=True)):
            if i:
                convolution = nn.Conv2d(widths[i - 1], width, 2, 2)
                parts.append(nn.Sequential(ChannelNorm(widths[i - 1]), convolution))
            parts.append(nn.Sequential(*(ConvNeXtBlock(width) for _ in range(size))))
        self.features = nn.Sequential(*parts)
        head = nn.Linear(widths[-1], CLASSES)
        self.classifier = nn.Sequential(ChannelNorm(widths[-1]), nn.Flatten(), head)

    def forward(self, x):
        x = nn.functional.adaptive_avg_pool2d(self.features(x), 1)
        return self.classifier[:2](x), self.classifier(x)


def timm_convnext_names(state):
    """Converts a state dict of torchvision to the names and shapes of timm."""
    renamed = {}
    for name, tensor in state.items():
        if name.startswith("classifier."):
            name = name.replace("classifier.0", "head.norm").replace("classifier.2", "head.fc")
        elif name.startswith("features.0."):
            name = name.replace("features.0", "stem")
        else:
            _, index, rest = name.split(".", 2)
            stage, blocks = divmod(int(index) - 1, 2)  # 1 is stage 0, 2 what leads to stage 1, ...
            if blocks:
                name = f"stages.{stage + 1}.downsample.{rest}"
            else:
                parts = {"0": "conv_dw", "2": "norm", "3": "mlp.fc1", "5": "mlp.fc2"}
                block, part, *rest = rest.split(".")
                if part == "layer_scale":
                    name, tensor = f"stages.{stage}.blocks.{block}.gamma", tensor.ravel()
                else:
                    name = f"stages.{stage}.blocks.{block}.{parts[rest[0]]}.{rest[1]}"
        renamed[name] = tensor
    return renamed


def scramble(net, seed=0):
    """Every parameter at random, so that no part can hide.

    The perceptrons work where GELU's two forms differ most for their size, between -1 and -4.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for module in net.modules():
            for name, leaf in module.named_parameters(recurse=False):
                leaf.normal_(float(name == "weight" and leaf.ndim == 1), 0.5, generator=generator)
                if leaf.ndim > 1 and name.endswith("weight"):
                    leaf *= 2 * leaf[0].numel() ** -0.5
            if isinstance(module, nn.Linear) and module.out_features == 4 * module.in_features:
                module.bias -= 2.5
            elif isinstance(module, nn.Linear) and module.in_features == 4 * module.out_features:
                module.weight *= 30
    return net.eval()


def compare(net, make, convention, sizes, tmp_path, rename=dict):
    """Checks features and logits of random images of each size to 1e-4 of their scale."""
    scramble(net)
    torch.save(rename(net.state_dict()), tmp_path / "weights.pt")
    bare, model = make(), make(classes=CLASSES)
    found = {tensor.name for tensor in model.weight_names()[convention].values()}
    assert found == set(rename(net.state_dict()))
    variables = models.load_weights(tmp_path / "weights.pt", model)
    for height, width in sizes:
        images = np.random.default_rng(0).normal(size=(2, height, width, 3)).astype(np.float32)
        with torch.no_grad():
            theirs = net(torch.from_numpy(images.transpose(0, 3, 1, 2).copy()))
        for ours, expected in zip((bare, model), theirs, strict=True):
            expected = expected.numpy()
            scale = np.abs(expected).max()
            assert np.abs(expected[0] - expected[1]).max() > 1e-2 * scale  # the images matter
            got = ours.apply(variables, images)
            np.testing.assert_allclose(got, expected, rtol=0, atol=1e-4 * scale)


def small_vit(**options):
    preprocessing = models.Preprocessing((0.0,), (1.0,), size=48)
    return ViT(width=32, depth=2, heads=4, preprocessing=preprocessing, **options)


@pytest.mark.parametrize(
    "net, options, convention",
    [
        (partial(TorchvisionViT, names=("0", "3")), {}, "torchvision"),
        (partial(TorchvisionViT, names=("linear_1", "linear_2")), {}, "torchvision_v1"),
        (partial(TimmViT, token=True), {}, "timm"),
        (partial(TimmViT, token=False), {"pool": "mean"}, "timm"),
    ],
)
def test_vit(net, options, convention, tmp_path):
    net = net(width=32, depth=2, heads=4, size=48)
    compare(net, partial(small_vit, **options), convention, [(48, 48)], tmp_path)


@pytest.mark.parametrize("convention", ["torchvision", "timm"])
def test_convnext(convention, tmp_path):
    form = {"sizes": (2, 1, 2, 1), "widths": (8, 12, 16, 24)}
    rename = {"torchvision": dict, "timm": timm_convnext_names}[convention]
    net = TorchvisionConvNeXt(**form)
    compare(net, partial(ConvNeXt, **form), convention, [(75, 101)], tmp_path, rename)


@pytest.mark.slow
@pytest.mark.parametrize(
    "make, net, convention",
    [
        (
            models.vit_b16,
            partial(TorchvisionViT, 768, 12, 12, 224, ("linear_1", "linear_2")),
            "torchvision_v1",
        ),
        (models.vit_s16, partial(TimmViT, 384, 12, 6, 224, True), "timm"),
        (
            models.convnext_tiny,
            partial(TorchvisionConvNeXt, (3, 3, 9, 3), (96, 192, 384, 768)),
            "torchvision",
        ),
    ],
)
def test_whole_networks(make, net, convention, tmp_path):
    compare(net(), make, convention, [(224, 224)], tmp_path)

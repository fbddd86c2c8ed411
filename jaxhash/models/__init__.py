"""Linen backbones, published weights for them, and the encoder that puts a hash head on one.

Read `Encoder` first: it maps inputs to real-valued codes. A `Backbone` consists of stages of
blocks; the number of frozen stages, the precision and the rematerialization are attributes of the
base class, and each architecture is one module. `BACKBONES` and `backbone_factory` find an
architecture by name, and `Preprocessing` describes how image bytes become its inputs.
`load_weights` reads published weights (PyTorch, safetensors, Keras HDF5, .npz) without executing
the file, and refuses a file that does not match the model exactly. `summary` counts parameters and
multiply-adds.
"""

from jaxhash.models._alexnet import alexnet as alexnet
from jaxhash.models._base import Backbone as Backbone
from jaxhash.models._base import stage_index as stage_index
from jaxhash.models._catalogue import BACKBONES as BACKBONES
from jaxhash.models._catalogue import PREPROCESSINGS as PREPROCESSINGS
from jaxhash.models._catalogue import VECTOR_BACKBONES as VECTOR_BACKBONES
from jaxhash.models._catalogue import BackboneName as BackboneName
from jaxhash.models._catalogue import PreprocessingName as PreprocessingName
from jaxhash.models._catalogue import backbone_factory as backbone_factory
from jaxhash.models._checks import check_model as check_model
from jaxhash.models._checks import preprocessing_of as preprocessing_of
from jaxhash.models._checks import updates_statistics as updates_statistics
from jaxhash.models._cifar_resnet import cifar_resnet20 as cifar_resnet20
from jaxhash.models._cifar_resnet import cifar_resnet32 as cifar_resnet32
from jaxhash.models._cifar_resnet import cifar_resnet44 as cifar_resnet44
from jaxhash.models._cifar_resnet import cifar_resnet56 as cifar_resnet56
from jaxhash.models._convnext import convnext_tiny as convnext_tiny
from jaxhash.models._efficientnet import efficientnet_lite0 as efficientnet_lite0
from jaxhash.models._efficientnet import efficientnet_lite2 as efficientnet_lite2
from jaxhash.models._encoder import Encoder as Encoder
from jaxhash.models._graph import GraphEncoder as GraphEncoder
from jaxhash.models._installed_weights import Pretrained as Pretrained
from jaxhash.models._installed_weights import find_pretrained as find_pretrained
from jaxhash.models._mobilenet import mobilenet_v2 as mobilenet_v2
from jaxhash.models._mobilenet import mobilenet_v2_tf as mobilenet_v2_tf
from jaxhash.models._modalities import MODALITY_PREFIX as MODALITY_PREFIX
from jaxhash.models._modalities import Modalities as Modalities
from jaxhash.models._norm import BatchNorm as BatchNorm
from jaxhash.models._preprocessing import CAFFE as CAFFE
from jaxhash.models._preprocessing import CENTRED as CENTRED
from jaxhash.models._preprocessing import EFFICIENTNET_LITE as EFFICIENTNET_LITE
from jaxhash.models._preprocessing import IMAGENET as IMAGENET
from jaxhash.models._preprocessing import Preprocessing as Preprocessing
from jaxhash.models._resnet import resnet18 as resnet18
from jaxhash.models._resnet import resnet34 as resnet34
from jaxhash.models._resnet import resnet50 as resnet50
from jaxhash.models._resnet import resnet101 as resnet101
from jaxhash.models._small import CNN as CNN
from jaxhash.models._small import MLP as MLP
from jaxhash.models._small import TextMLP as TextMLP
from jaxhash.models._small import linear as linear
from jaxhash.models._small import text_mlp as text_mlp
from jaxhash.models._squeezenet import squeezenet1_1 as squeezenet1_1
from jaxhash.models._summary import Summary as Summary
from jaxhash.models._summary import SummaryRow as SummaryRow
from jaxhash.models._summary import summary as summary
from jaxhash.models._vgg import vgg11 as vgg11
from jaxhash.models._vgg import vgg11_bn as vgg11_bn
from jaxhash.models._vgg import vgg16 as vgg16
from jaxhash.models._vgg import vgg16_bn as vgg16_bn
from jaxhash.models._vit import vit_b16 as vit_b16
from jaxhash.models._vit import vit_b16_flax as vit_b16_flax
from jaxhash.models._vit import vit_s16 as vit_s16
from jaxhash.models._vit import vit_s16_flax as vit_s16_flax
from jaxhash.models._weights import Weights as Weights
from jaxhash.models._weights import load_weights as load_weights
from jaxhash.models._weights import read_weights as read_weights

__all__ = [
    "BACKBONES",
    "CAFFE",
    "CENTRED",
    "CNN",
    "EFFICIENTNET_LITE",
    "IMAGENET",
    "MLP",
    "MODALITY_PREFIX",
    "PREPROCESSINGS",
    "VECTOR_BACKBONES",
    "Backbone",
    "BackboneName",
    "Encoder",
    "GraphEncoder",
    "Modalities",
    "Preprocessing",
    "PreprocessingName",
    "Pretrained",
    "Summary",
    "SummaryRow",
    "TextMLP",
    "Weights",
    "alexnet",
    "backbone_factory",
    "check_model",
    "cifar_resnet20",
    "cifar_resnet32",
    "cifar_resnet44",
    "cifar_resnet56",
    "convnext_tiny",
    "efficientnet_lite0",
    "efficientnet_lite2",
    "find_pretrained",
    "linear",
    "load_weights",
    "mobilenet_v2",
    "mobilenet_v2_tf",
    "preprocessing_of",
    "read_weights",
    "resnet18",
    "resnet34",
    "resnet50",
    "resnet101",
    "squeezenet1_1",
    "stage_index",
    "summary",
    "text_mlp",
    "updates_statistics",
    "vgg11",
    "vgg11_bn",
    "vgg16",
    "vgg16_bn",
    "vit_b16",
    "vit_b16_flax",
    "vit_s16",
    "vit_s16_flax",
]

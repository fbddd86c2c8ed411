"""What is minimized: a published method whole, with its trained parameters and its state.

An objective is a pair of pure functions; objectives add up::

    combine(hashnet(), weighted(0.1, hswd()))
"""

from jaxhash.objectives._autoencoder import dcw_autoencoder as dcw_autoencoder
from jaxhash.objectives._base import Batch as Batch
from jaxhash.objectives._base import ClassSimilarity as ClassSimilarity
from jaxhash.objectives._base import Context as Context
from jaxhash.objectives._base import Loss as Loss
from jaxhash.objectives._base import Objective as Objective
from jaxhash.objectives._base import Setup as Setup
from jaxhash.objectives._base import TableSharding as TableSharding
from jaxhash.objectives._base import Variables as Variables
from jaxhash.objectives._base import Weight as Weight
from jaxhash.objectives._base import combine as combine
from jaxhash.objectives._base import weighted as weighted
from jaxhash.objectives._catalogue import METHODS as METHODS
from jaxhash.objectives._catalogue import QUANTIZERS as QUANTIZERS
from jaxhash.objectives._catalogue import Method as Method
from jaxhash.objectives._catalogue import MethodName as MethodName
from jaxhash.objectives._centers import csq as csq
from jaxhash.objectives._centers import dpn as dpn
from jaxhash.objectives._centers import hyp2 as hyp2
from jaxhash.objectives._centers import orthohash as orthohash
from jaxhash.objectives._classification import CrossEntropy as CrossEntropy
from jaxhash.objectives._classification import cross_entropy as cross_entropy
from jaxhash.objectives._classification import greedyhash as greedyhash
from jaxhash.objectives._classification import jmlh as jmlh
from jaxhash.objectives._classification import supervised_deep_hashing as supervised_deep_hashing
from jaxhash.objectives._discrete import asymmetric_dsh as asymmetric_dsh
from jaxhash.objectives._discrete import dsdh as dsdh
from jaxhash.objectives._discrete import dsdh_released as dsdh_released
from jaxhash.objectives._distance import dch as dch
from jaxhash.objectives._distance import dsh as dsh
from jaxhash.objectives._distance import qsmih as qsmih
from jaxhash.objectives._distance import wglhh as wglhh
from jaxhash.objectives._distillation import dhd as dhd
from jaxhash.objectives._hashnet import hashnet as hashnet
from jaxhash.objectives._hierarchical import hpdh as hpdh
from jaxhash.objectives._likelihood import dbdh as dbdh
from jaxhash.objectives._likelihood import dfh as dfh
from jaxhash.objectives._likelihood import dhn as dhn
from jaxhash.objectives._likelihood import dpsh as dpsh
from jaxhash.objectives._likelihood import idhn as idhn
from jaxhash.objectives._likelihood import lcdsh as lcdsh
from jaxhash.objectives._pairs import Pairs as Pairs
from jaxhash.objectives._pairs import Unseen as Unseen
from jaxhash.objectives._quantizers import balance as balance
from jaxhash.objectives._quantizers import bernoulli_kl as bernoulli_kl
from jaxhash.objectives._quantizers import cauchy as cauchy
from jaxhash.objectives._quantizers import cosine as cosine
from jaxhash.objectives._quantizers import cubic as cubic
from jaxhash.objectives._quantizers import decorrelated_hswd as decorrelated_hswd
from jaxhash.objectives._quantizers import decorrelation as decorrelation
from jaxhash.objectives._quantizers import empirical_kl as empirical_kl
from jaxhash.objectives._quantizers import gaussian_bce as gaussian_bce
from jaxhash.objectives._quantizers import hswd as hswd
from jaxhash.objectives._quantizers import koleo as koleo
from jaxhash.objectives._quantizers import l1 as l1
from jaxhash.objectives._quantizers import l2 as l2
from jaxhash.objectives._quantizers import log_cosh as log_cosh
from jaxhash.objectives._quantizers import ot as ot
from jaxhash.objectives._quantizers import parity_hswd as parity_hswd
from jaxhash.objectives._quantizers import sinkhorn as sinkhorn
from jaxhash.objectives._quantizers import swd as swd
from jaxhash.objectives._ranking import dtsh as dtsh
from jaxhash.objectives._ranking import mihash as mihash
from jaxhash.objectives._ranking import tie_aware_ap as tie_aware_ap
from jaxhash.objectives._semantic import shred as shred
from jaxhash.objectives._semantic import shrewd as shrewd
from jaxhash.objectives._tables import Bank as Bank
from jaxhash.objectives._tables import ClassTable as ClassTable
from jaxhash.objectives._tables import ItemTable as ItemTable
from jaxhash.objectives._tables import sharded_leaves as sharded_leaves
from jaxhash.objectives._unsupervised import bihalf as bihalf
from jaxhash.objectives._unsupervised import cibhash as cibhash
from jaxhash.objectives._unsupervised import greedyhash_u as greedyhash_u
from jaxhash.objectives._unsupervised import (
    semantic_structure_hashing as semantic_structure_hashing,
)

__all__ = [
    "Bank",
    "Batch",
    "Context",
    "CrossEntropy",
    "Loss",
    "METHODS",
    "Method",
    "MethodName",
    "Objective",
    "ClassTable",
    "ItemTable",
    "Pairs",
    "QUANTIZERS",
    "ClassSimilarity",
    "Setup",
    "TableSharding",
    "Unseen",
    "Variables",
    "Weight",
    "asymmetric_dsh",
    "balance",
    "bernoulli_kl",
    "bihalf",
    "cauchy",
    "cibhash",
    "combine",
    "cosine",
    "cross_entropy",
    "csq",
    "cubic",
    "dbdh",
    "dch",
    "dcw_autoencoder",
    "decorrelated_hswd",
    "decorrelation",
    "dfh",
    "dhd",
    "dhn",
    "dpn",
    "dpsh",
    "dsdh",
    "dsdh_released",
    "dsh",
    "dtsh",
    "empirical_kl",
    "gaussian_bce",
    "greedyhash",
    "greedyhash_u",
    "hashnet",
    "hpdh",
    "hswd",
    "hyp2",
    "idhn",
    "jmlh",
    "koleo",
    "l1",
    "l2",
    "lcdsh",
    "log_cosh",
    "mihash",
    "orthohash",
    "ot",
    "parity_hswd",
    "qsmih",
    "semantic_structure_hashing",
    "shred",
    "shrewd",
    "sinkhorn",
    "sharded_leaves",
    "supervised_deep_hashing",
    "swd",
    "tie_aware_ap",
    "weighted",
    "wglhh",
]

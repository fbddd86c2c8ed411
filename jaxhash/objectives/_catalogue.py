"""The methods and the quantizers by the names of the command line."""

from collections.abc import Callable
from typing import Literal, NamedTuple

from jaxhash.objectives import _quantizers as quantizers
from jaxhash.objectives._autoencoder import dcw_autoencoder
from jaxhash.objectives._base import Objective
from jaxhash.objectives._centers import csq, dpn, hyp2, orthohash
from jaxhash.objectives._classification import (
    cross_entropy,
    greedyhash,
    jmlh,
    supervised_deep_hashing,
)
from jaxhash.objectives._discrete import asymmetric_dsh, dsdh, dsdh_released
from jaxhash.objectives._distance import dch, dsh, qsmih, wglhh
from jaxhash.objectives._distillation import dhd
from jaxhash.objectives._hashnet import hashnet
from jaxhash.objectives._hierarchical import hpdh
from jaxhash.objectives._likelihood import dbdh, dfh, dhn, dpsh, idhn, lcdsh
from jaxhash.objectives._ranking import dtsh, mihash, tie_aware_ap
from jaxhash.objectives._semantic import shred, shrewd
from jaxhash.objectives._unsupervised import (
    bihalf,
    cibhash,
    greedyhash_u,
    semantic_structure_hashing,
)

Kind = Literal[
    "pairwise",
    "ranking",
    "discrete",
    "centers",
    "classification",
    "hierarchy",
    "distillation",
    "unsupervised",
]


class Method(NamedTuple):
    """A published method, and what is asked of it first."""

    make: Callable[..., Objective]
    kind: Kind
    state: str
    """What it keeps or trains beside the network."""
    multi_label: str
    """What it makes of several labels of an image."""
    reference: str

    @property
    def name(self) -> str:
        """Its name on the command line."""
        return self.make.__name__.replace("_", "-")


_SHARED = "any label shared"
_SOFT = "y / sum(y)"
_MAJORITY = "sign of the sum of centers"
_BLIND = "sees no labels"
_FIXED = "images: first model"

#: Every method by its name.
METHODS: dict[str, Method] = {
    method.name: method
    for method in (
        Method(hashnet, "pairwise", "bank", _SHARED, "Cao et al., ICCV 2017"),
        Method(dpsh, "pairwise", "bank", _SHARED, "Li et al., IJCAI 2016"),
        Method(dhn, "pairwise", "-", _SHARED, "Zhu et al., AAAI 2016"),
        Method(dbdh, "pairwise", "-", _SHARED, "Zheng et al., Neurocomputing 2020"),
        Method(lcdsh, "pairwise", "-", _SHARED, "Zhu and Gao, IJCAI 2017"),
        Method(idhn, "pairwise", "-", "cosine of labels", "Zhang et al., TMM 2019"),
        Method(dfh, "pairwise", "bank, centers", _SHARED, "Li et al., BMVC 2019"),
        Method(dch, "pairwise", "-", _SHARED, "Cao et al., CVPR 2018"),
        Method(dsh, "pairwise", "-", _SHARED, "Liu et al., CVPR 2016"),
        Method(qsmih, "pairwise", "-", _SHARED, "Passalis and Tefas, SPIC 2021"),
        Method(wglhh, "pairwise", "-", _SHARED, "Tu et al., ACM MM 2021"),
        Method(dtsh, "ranking", "-", _SHARED, "Wang et al., ACCV 2016"),
        Method(mihash, "ranking", "-", _SHARED, "Cakir et al., ICCV 2017"),
        Method(tie_aware_ap, "ranking", "-", _SHARED, "He et al., CVPR 2018"),
        Method(dsdh, "discrete", "bank, codes, classifier", _SHARED, "Li et al., NIPS 2017"),
        Method(dsdh_released, "pairwise", "bank", _SHARED, "Doan et al., CVPR 2022"),
        Method(asymmetric_dsh, "discrete", "bank, codes", _SHARED, "Jiang and Li, AAAI 2018"),
        Method(csq, "centers", "centers", _MAJORITY, "Yuan et al., CVPR 2020"),
        Method(dpn, "centers", "centers", "mean over its centers", "Fan et al., IJCAI 2020"),
        Method(orthohash, "centers", "centers", _SOFT, "Hoe et al., NeurIPS 2021"),
        Method(hyp2, "centers", "proxies", "a proxy each label", "Xu et al., ACM MM 2022"),
        Method(cross_entropy, "classification", "classifier", _SOFT, "baseline"),
        Method(greedyhash, "classification", "classifier", _SOFT, "Su et al., NeurIPS 2018"),
        Method(jmlh, "classification", "classifier", _SOFT, "Shen et al., ICCVW 2019"),
        Method(
            supervised_deep_hashing,
            "classification",
            "classifier",
            _SOFT,
            "Liong et al., CVPR 2015",
        ),
        Method(hpdh, "hierarchy", "centers", _SOFT, "Zhang et al., 2019"),
        Method(shrewd, "hierarchy", "distances", "cosine of labels", "Arponen and Bishop, 2019"),
        Method(
            shred,
            "hierarchy",
            "classifier, distances",
            "cosine of labels",
            "Arponen and Bishop, 2020",
        ),
        Method(dhd, "distillation", "proxies", _SOFT, "Jang et al., ECCV 2022"),
        Method(greedyhash_u, "unsupervised", _FIXED, _BLIND, "Su et al., NeurIPS 2018"),
        Method(bihalf, "unsupervised", _FIXED, _BLIND, "Li and van Gemert, AAAI 2021"),
        Method(cibhash, "unsupervised", "-", _BLIND, "Qiu et al., IJCAI 2021"),
        Method(
            semantic_structure_hashing,
            "unsupervised",
            f"histogram, {_FIXED}",
            _BLIND,
            "Yang et al., IJCAI 2018",
        ),
        Method(dcw_autoencoder, "unsupervised", "decoder", _BLIND, "Doan and Reddy, 2020"),
    )
}

#: Every quantizer by its name.
QUANTIZERS: dict[str, Callable[..., Objective]] = {
    make.__name__.replace("_", "-"): make
    for make in (
        quantizers.hswd,
        quantizers.swd,
        quantizers.ot,
        quantizers.sinkhorn,
        quantizers.l1,
        quantizers.l2,
        quantizers.cubic,
        quantizers.log_cosh,
        quantizers.cosine,
        quantizers.cauchy,
        quantizers.gaussian_bce,
        quantizers.balance,
        quantizers.decorrelation,
        quantizers.bernoulli_kl,
        quantizers.koleo,
        quantizers.empirical_kl,
        quantizers.parity_hswd,
        quantizers.decorrelated_hswd,
    )
}

MethodName = Literal[tuple(METHODS)]

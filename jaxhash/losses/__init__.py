"""Hashing losses: one pure function of arrays per published loss, one module per family.

Read this first, then `hswd`. What all losses share is said here, and not repeated in each:

Arguments:
    * ``codes`` [n, bits]: one row per image, one column per bit. They must be floating: float32,
      bfloat16 or float16, accumulated in float32 (float64 gives a loss in float64).
    * ``others`` [m, bits], in losses of pairs: the columns that the rows are compared with, either
      the batch itself (gathered over devices) or a memory bank.
    * ``similar`` [n, m]: True where a pair is similar. ``labels`` [n, classes]: multi-hot rows, 1
      where the image belongs to the class; see `jaxhash.similarity.multi_hot`.
    * ``where``: True for the valid rows [n], or pairs [n, m]; all by default. N in the formulas is
      the number of valid rows. Masked entries change neither the value nor the normalizer, their
      gradient is exactly 0, and they may hold NaN. Without a valid row or pair the loss is 0.
    * ``where``, ``similar`` and ``labels`` hold 0 and 1 as bool, integers or floats, of JAX or
      NumPy. The values of traced arrays cannot be checked: there every positive value counts as 1.
    * ``axis_name``: the mapped axis (pmap, vmap, shard_map) over which the rows are sharded. The
      value is that of the whole batch, the same on every device, and the gradient is the device's
      *share*: sum the gradients over the axis (``jax.lax.psum``), do not average them. Under
      ``jax.shard_map`` pass ``check_vma=False``: by default JAX sums the gradient of replicated
      arguments itself, and the loss raises a ValueError.
    * ``pair_counts``: where ``others`` are a block of the columns of a pairwise loss, the numbers of
      pairs of all blocks, as `PairCounts`. The values of the blocks then add up to the loss of all
      columns.
    * ``reduce_fn``: reduction over bits, such as ``jnp.mean``; None gives one loss per bit [bits].
    * ``key``: a random key, the same on every device.

Returns:
    * A float32 scalar, unless the function says otherwise.
    * Where the loss is finite, so is its gradient. A loss that grows with a power of the codes is
      infinite or NaN where that overflows: in float32 squares do from codes of 1e19 on. NaN in a
      valid row makes the loss NaN.
    * A row of zeros has no direction: its cosine with any row is 0, and its gradient is 0.

Raises:
    * TypeError if codes are not floating or an array has the wrong dtype; ValueError if a shape
      does not fit or a value is out of range. The message names the argument and what it got.

Meshes: without ``axis_name`` the rows may be sharded over a mesh of Auto or Explicit axes
(``jax.make_mesh`` makes the latter). Under ``jax.jit`` value and gradient are those of one device,
and the gradients must not be summed again.
"""

from jaxhash.losses._anchors import AnchorReduction as AnchorReduction
from jaxhash.losses._anchors import anchor_attraction as anchor_attraction
from jaxhash.losses._anchors import anchor_norm_shortfall as anchor_norm_shortfall
from jaxhash.losses._anchors import anchor_repulsion as anchor_repulsion
from jaxhash.losses._anchors import proto_triplet as proto_triplet
from jaxhash.losses._bit_statistics import bernoulli_kl as bernoulli_kl
from jaxhash.losses._bit_statistics import bit_balance_penalty as bit_balance_penalty
from jaxhash.losses._bit_statistics import bit_decorrelation as bit_decorrelation
from jaxhash.losses._bit_statistics import koleo as koleo
from jaxhash.losses._centers import MarginType as MarginType
from jaxhash.losses._centers import csq as csq
from jaxhash.losses._centers import dpn as dpn
from jaxhash.losses._centers import hyp2_pairs as hyp2_pairs
from jaxhash.losses._centers import hyp2_proxies as hyp2_proxies
from jaxhash.losses._centers import orthohash as orthohash
from jaxhash.losses._classification import bernoulli_kl_per_code as bernoulli_kl_per_code
from jaxhash.losses._classification import binary_cross_entropy as binary_cross_entropy
from jaxhash.losses._classification import cosine_distillation as cosine_distillation
from jaxhash.losses._classification import cross_entropy as cross_entropy
from jaxhash.losses._classification import hash_proxy as hash_proxy
from jaxhash.losses._classification import pair_scatter as pair_scatter
from jaxhash.losses._classification import variance_shortfall as variance_shortfall
from jaxhash.losses._common import PairCounts as PairCounts
from jaxhash.losses._discrete import asymmetric_dsh as asymmetric_dsh
from jaxhash.losses._discrete import asymmetric_dsh_codes as asymmetric_dsh_codes
from jaxhash.losses._discrete import asymmetric_dsh_target as asymmetric_dsh_target
from jaxhash.losses._discrete import distance_to_codes as distance_to_codes
from jaxhash.losses._discrete import dsah_codes as dsah_codes
from jaxhash.losses._discrete import dsdh_classifier as dsdh_classifier
from jaxhash.losses._discrete import dsdh_codes as dsdh_codes
from jaxhash.losses._distance import dch as dch
from jaxhash.losses._distance import dsh as dsh
from jaxhash.losses._distance import qsmi as qsmi
from jaxhash.losses._distance import wglhh as wglhh
from jaxhash.losses._documents import psh_pairs as psh_pairs
from jaxhash.losses._documents import word_nll as word_nll
from jaxhash.losses._estimators import Estimator as Estimator
from jaxhash.losses._estimators import antithetic_bits as antithetic_bits
from jaxhash.losses._estimators import bernoulli_gradient as bernoulli_gradient
from jaxhash.losses._hswd import Order as Order
from jaxhash.losses._hswd import RankingMethod as RankingMethod
from jaxhash.losses._hswd import Target as Target
from jaxhash.losses._hswd import hswd as hswd
from jaxhash.losses._hswd_joint import decorrelated_hswd as decorrelated_hswd
from jaxhash.losses._hswd_joint import parity_hswd as parity_hswd
from jaxhash.losses._icnn import icnn as icnn
from jaxhash.losses._interactions import bpr as bpr
from jaxhash.losses._interactions import interaction_cross_entropy as interaction_cross_entropy
from jaxhash.losses._linear_classifier import linear_cross_entropy as linear_cross_entropy
from jaxhash.losses._multilevel import multilevel_means as multilevel_means
from jaxhash.losses._multilevel import multilevel_triplet as multilevel_triplet
from jaxhash.losses._multilevel import rank_consistency as rank_consistency
from jaxhash.losses._nearest_neighbors import nearest_neighbor_kl as nearest_neighbor_kl
from jaxhash.losses._pairwise import hashnet as hashnet
from jaxhash.losses._pairwise import idhn as idhn
from jaxhash.losses._pairwise import lcdsh_locality as lcdsh_locality
from jaxhash.losses._pairwise import mean_likelihood as mean_likelihood
from jaxhash.losses._pairwise import pairwise_likelihood as pairwise_likelihood
from jaxhash.losses._propagation import propagated_cross_entropy as propagated_cross_entropy
from jaxhash.losses._quantization import cauchy_quantization as cauchy_quantization
from jaxhash.losses._quantization import cosine_quantization as cosine_quantization
from jaxhash.losses._quantization import cubic_quantization as cubic_quantization
from jaxhash.losses._quantization import gaussian_bce_quantization as gaussian_bce_quantization
from jaxhash.losses._quantization import l1_quantization as l1_quantization
from jaxhash.losses._quantization import l2_quantization as l2_quantization
from jaxhash.losses._quantization import log_cosh_quantization as log_cosh_quantization
from jaxhash.losses._ranking import dtsh as dtsh
from jaxhash.losses._ranking import mihash as mihash
from jaxhash.losses._ranking import tie_aware_ap as tie_aware_ap
from jaxhash.losses._semantic import Normalizer as Normalizer
from jaxhash.losses._semantic import semantic_similarity as semantic_similarity
from jaxhash.losses._sinkhorn import sinkhorn as sinkhorn
from jaxhash.losses._transport import Directions as Directions
from jaxhash.losses._transport import optimal_transport as optimal_transport
from jaxhash.losses._transport import sliced_wasserstein as sliced_wasserstein
from jaxhash.losses._unsupervised import cosine_regression as cosine_regression
from jaxhash.losses._unsupervised import nt_xent as nt_xent
from jaxhash.losses._unsupervised import semantic_consistency as semantic_consistency
from jaxhash.losses._unsupervised import semantic_structure as semantic_structure
from jaxhash.losses._unsupervised import view_divergence as view_divergence

#: The losses and the types of their options: every name above.
__all__ = [name for name in dir() if not name.startswith("_")]

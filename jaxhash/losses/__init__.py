"""Hashing losses as pure functions of arrays.

Conventions, the same for every function here:

* rows are images and columns are bits; codes may be float32, bfloat16 or float16, and everything is
  accumulated in float32. Codes of float64 make a loss of float64;
* ``where`` marks the valid rows: a masked row changes neither the value nor the normalizer, and its
  gradient is exactly zero; without a valid row the loss is 0;
* what says yes or no (``where``, ``similar``, multi-hot ``labels``) is 0 and 1 of bool, integers or
  floats, of JAX or NumPy. Another dtype raises a TypeError, another value a ValueError, which name
  the argument. Of a traced array no value can be refused: there all above 0 counts as 1;
* a loss that grows with a power of the codes is infinite or NaN where that overflows: in float32,
  squares do from codes of 1e19 on. Wherever the loss is finite, so is its gradient. A code of NaN
  makes the loss NaN, unless it is masked;
* ``axis_name`` names a mapped axis (pmap, vmap, shard_map) over which the batch is spread. The value
  is then that of the whole batch, the same on every device, and the gradient is the device's
  *share*: sum the gradients over the axis (``jax.lax.psum``), do not average them. Under
  ``jax.shard_map`` that takes ``check_vma=False``: with the default JAX has summed the gradient of
  what all devices share before the caller does, which is refused;
* without ``axis_name``, rows may be spread by their sharding over a mesh of Auto or Explicit axes
  (``jax.make_mesh`` makes the latter): under ``jax.jit`` value and gradient are one device's, and
  nothing is to be summed.
"""

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
from jaxhash.losses._discrete import asymmetric_dsh as asymmetric_dsh
from jaxhash.losses._discrete import asymmetric_dsh_codes as asymmetric_dsh_codes
from jaxhash.losses._discrete import asymmetric_dsh_target as asymmetric_dsh_target
from jaxhash.losses._discrete import distance_to_codes as distance_to_codes
from jaxhash.losses._discrete import dsdh_classifier as dsdh_classifier
from jaxhash.losses._discrete import dsdh_codes as dsdh_codes
from jaxhash.losses._distance import dch as dch
from jaxhash.losses._distance import dsh as dsh
from jaxhash.losses._distance import qsmi as qsmi
from jaxhash.losses._distance import wglhh as wglhh
from jaxhash.losses._hswd import Order as Order
from jaxhash.losses._hswd import RankingMethod as RankingMethod
from jaxhash.losses._hswd import Target as Target
from jaxhash.losses._hswd import hswd as hswd
from jaxhash.losses._hswd_joint import decorrelated_hswd as decorrelated_hswd
from jaxhash.losses._hswd_joint import parity_hswd as parity_hswd
from jaxhash.losses._nearest_neighbors import nearest_neighbor_kl as nearest_neighbor_kl
from jaxhash.losses._pairwise import hashnet as hashnet
from jaxhash.losses._pairwise import idhn as idhn
from jaxhash.losses._pairwise import lcdsh_locality as lcdsh_locality
from jaxhash.losses._pairwise import mean_likelihood as mean_likelihood
from jaxhash.losses._pairwise import pairwise_likelihood as pairwise_likelihood
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
from jaxhash.losses._unsupervised import semantic_structure as semantic_structure
from jaxhash.losses._unsupervised import view_divergence as view_divergence

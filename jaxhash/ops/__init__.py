"""Operations that losses, metrics and objectives are built from.

The most used are exported here: `relax` and `binarize` real-valued codes (0 counts as +1),
`straight_through`, `pack` and `unpack` to bytes, `hamming_distance`, and `codebook` for the codes of
classes. Read `jaxhash.ops.codes` first.

The modules: ``codes`` and ``codebooks``; ``selection``, order statistics without a sort;
``collectives``, sums and gathers over a mapped axis; ``meshes``, the same result on any mesh;
``numerics``, safe arithmetic; ``random_words``; ``arguments``, checks.
Functions take arrays of JAX or NumPy, and a bad argument raises TypeError or ValueError naming it.
"""

from jaxhash.ops.codebooks import Codebook as Codebook
from jaxhash.ops.codebooks import codebook as codebook
from jaxhash.ops.codes import binarize as binarize
from jaxhash.ops.codes import hamming_distance as hamming_distance
from jaxhash.ops.codes import pack as pack
from jaxhash.ops.codes import relax as relax
from jaxhash.ops.codes import straight_through as straight_through
from jaxhash.ops.codes import unpack as unpack

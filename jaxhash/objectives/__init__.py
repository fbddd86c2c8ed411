"""Published hashing methods as objectives: trained parameters, state and loss together.

An objective is a pair of pure functions, and objectives add up::

    combine(hashnet(), weighted(0.1, hswd()))

Read `_base` first: it is the interface to the training step. `_pairs` and `_tables` hold the memory
banks and the tables of items and classes, `_quantizers` the terms that any method takes. Every
other module is a family of methods and ends with ``METHODS``, a row (`Method`) for each: a new
method is a function, its name in ``__all__`` and a row. The order of the families stands in
`_catalogue`.

What the methods share: u are the raw codes of the network. Two images are similar if they share any
label. ``pairs="batch"`` pairs a row with the other rows of the whole batch, and the gradient flows
through both; ``pairs="bank"`` pairs it with the last code of every training image, a constant.
``unseen`` says what an image is that no batch has held yet. ``penalty`` is the weight of the
method's own quantization penalty; 0 leaves the penalty out. An option that is out of range raises a
ValueError that names it.
"""

from jaxhash.objectives._anchors import *
from jaxhash.objectives._asymmetric import *
from jaxhash.objectives._autoencoder import *
from jaxhash.objectives._banks import RecentBank as RecentBank
from jaxhash.objectives._banks import Unfilled as Unfilled
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
from jaxhash.objectives._base import from_loss as from_loss
from jaxhash.objectives._base import labeled_rows_only as labeled_rows_only
from jaxhash.objectives._base import weighted as weighted
from jaxhash.objectives._catalogue import METHODS as METHODS
from jaxhash.objectives._catalogue import QUANTIZERS as QUANTIZERS
from jaxhash.objectives._catalogue import MethodName as MethodName
from jaxhash.objectives._centers import *
from jaxhash.objectives._classification import *
from jaxhash.objectives._consistency import *
from jaxhash.objectives._discrete import *
from jaxhash.objectives._distance import *
from jaxhash.objectives._distillation import *
from jaxhash.objectives._documents import *
from jaxhash.objectives._dsah import *
from jaxhash.objectives._few_labels import *
from jaxhash.objectives._hashnet import *
from jaxhash.objectives._hierarchical import *
from jaxhash.objectives._interactions import *
from jaxhash.objectives._likelihood import *
from jaxhash.objectives._method import Method as Method
from jaxhash.objectives._modalities import cross_modal as cross_modal
from jaxhash.objectives._multilevel import *
from jaxhash.objectives._pairs import Pairs as Pairs
from jaxhash.objectives._quantizers import *
from jaxhash.objectives._ranking import *
from jaxhash.objectives._semantic import *
from jaxhash.objectives._tables import Bank as Bank
from jaxhash.objectives._tables import ClassTable as ClassTable
from jaxhash.objectives._tables import ItemTable as ItemTable
from jaxhash.objectives._tables import sharded_leaves as sharded_leaves
from jaxhash.objectives._unsupervised import *

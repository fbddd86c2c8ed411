"""Pairwise similarity from labels, class hierarchies and embeddings.

Start with `shares_label`, which pairs are similar, and `has_label`, the mask of rows with a label.
`label_cosine`, `label_iou` and `label_overlap` are graded; `Hierarchy` and `tree_similarity` compare
classes by a tree, `level_similarity` by labels at several levels, `embedding_distance` by cosine.
`semantic_confidence` weighs pairs that distances of features call similar or dissimilar.

Labels are class ids [n] of integers, or 0/1 rows (multi-hot) [n, classes]; an id of -1 and a row of
zeros mean "no label" and are similar to nothing. Pairs need the same kind on both sides. Functions of
labels raise TypeError if labels are not numbers or ids are not integers, and ValueError if the two
kinds are mixed, a multi-hot entry is not 0 or 1, or an id is below -1.
"""

from jaxhash.ops.arguments import UNLABELLED as UNLABELLED
from jaxhash.similarity._confidence import semantic_confidence as semantic_confidence
from jaxhash.similarity._embeddings import embedding_distance as embedding_distance
from jaxhash.similarity._hierarchy import Hierarchy as Hierarchy
from jaxhash.similarity._hierarchy import class_levels as class_levels
from jaxhash.similarity._hierarchy import class_levels_from_items as class_levels_from_items
from jaxhash.similarity._hierarchy import level_similarity as level_similarity
from jaxhash.similarity._hierarchy import merge_heights as merge_heights
from jaxhash.similarity._hierarchy import read_hierarchy as read_hierarchy
from jaxhash.similarity._hierarchy import tree_similarity as tree_similarity
from jaxhash.similarity._hierarchy import wu_palmer_similarity as wu_palmer_similarity
from jaxhash.similarity._labels import has_label as has_label
from jaxhash.similarity._labels import label_cosine as label_cosine
from jaxhash.similarity._labels import label_iou as label_iou
from jaxhash.similarity._labels import label_overlap as label_overlap
from jaxhash.similarity._labels import multi_hot as multi_hot
from jaxhash.similarity._labels import shared_labels as shared_labels
from jaxhash.similarity._labels import shares_label as shares_label

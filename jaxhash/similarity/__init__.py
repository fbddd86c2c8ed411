"""From labels, hierarchies and embeddings to similarity: the one place that knows what labels mean."""

from jaxhash.ops.arguments import UNLABELLED as UNLABELLED
from jaxhash.similarity._embeddings import embedding_distance as embedding_distance
from jaxhash.similarity._hierarchy import Hierarchy as Hierarchy
from jaxhash.similarity._hierarchy import class_levels as class_levels
from jaxhash.similarity._hierarchy import class_levels_of_items as class_levels_of_items
from jaxhash.similarity._hierarchy import joining_heights as joining_heights
from jaxhash.similarity._hierarchy import level_similarity as level_similarity
from jaxhash.similarity._hierarchy import read_hierarchy as read_hierarchy
from jaxhash.similarity._hierarchy import tree_similarity as tree_similarity
from jaxhash.similarity._hierarchy import wu_palmer as wu_palmer
from jaxhash.similarity._labels import has_label as has_label
from jaxhash.similarity._labels import label_cosine as label_cosine
from jaxhash.similarity._labels import label_iou as label_iou
from jaxhash.similarity._labels import label_overlap as label_overlap
from jaxhash.similarity._labels import multi_hot as multi_hot
from jaxhash.similarity._labels import share_a_label as share_a_label

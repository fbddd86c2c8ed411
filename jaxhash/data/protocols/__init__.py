"""Split protocols: how a data set is cut into training items, queries and database.

`published` holds those of the literature, one function for each, whose docstring says what papers
report with it; `general` those for any data. `make_split` makes the split that a name means, and
`split_source` does so for a source and a command's options. `sampling` is what they share.
"""

from jaxhash.data.protocols.by_name import (
    AUTO,
    COUNTS,
    OWN_PARTS,
    PER_CLASS,
    PROTOCOLS,
    SplitOptions,
    check_protocol,
    describe_parts,
    describe_source,
    make_split,
    resolve_protocol,
    split_source,
)
from jaxhash.data.protocols.few_labels import draw_labeled, with_labeled
from jaxhash.data.protocols.general import own_parts, per_class, random_items, zero_shot
from jaxhash.data.protocols.published import (
    cifar10_i,
    cifar10_i_prime,
    cifar10_ii,
    cifar100,
    coco,
    imagenet100,
    mirflickr,
    nus_wide_21,
    nus_wide_81,
)

__all__ = [
    "AUTO",
    "COUNTS",
    "OWN_PARTS",
    "PER_CLASS",
    "PROTOCOLS",
    "SplitOptions",
    "check_protocol",
    "cifar10_i",
    "cifar10_i_prime",
    "cifar10_ii",
    "cifar100",
    "coco",
    "imagenet100",
    "make_split",
    "mirflickr",
    "nus_wide_21",
    "nus_wide_81",
    "own_parts",
    "per_class",
    "random_items",
    "resolve_protocol",
    "split_source",
    "describe_parts",
    "describe_source",
    "draw_labeled",
    "with_labeled",
    "zero_shot",
]

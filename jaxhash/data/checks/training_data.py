"""Opens the split of a data set and checks the data, before there is a model."""

import hashlib
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

from rich.console import Console

from jaxhash.data.checks.duplicates import (
    EqualInputs,
    equal_input_leaks,
    find_equal_inputs,
    name_examples,
)
from jaxhash.data.checks.relevance import check_learnable, check_relevance
from jaxhash.data.protocols import (
    OWN_PARTS,
    describe_source,
    draw_labeled,
    resolve_protocol,
    split_source,
)
from jaxhash.data.rows import large_parts, row_blocks
from jaxhash.data.sources import Source
from jaxhash.data.splits import Split, check_leaks, with_validation
from jaxhash.data.tree_form import AnyForm
from jaxhash.objectives import METHODS, ClassSimilarity
from jaxhash.training.distributed import broadcast_from_host0
from jaxhash.utils.errors import UserError

if TYPE_CHECKING:  # a configuration knows the names of protocols
    from jaxhash.data.config import DataConfig


class Findings(NamedTuple):
    """Findings in the data of an experiment."""

    equal_inputs: Mapping[str, Mapping[str, int]] = MappingProxyType({})
    """By two parts of the split, the number of items of the first that equal another of the second."""
    data_sha256: str = ""
    """Digest of the split, the labels and the inputs of its items."""
    leaks: Sequence[str] = ()
    """Leaks of the split that were allowed, one sentence each."""
    notes: Sequence[str] = ()
    """Choices that were made about the data, one sentence each."""
    warnings: Sequence[str] = ()
    """Warnings about the data, one sentence each."""


def open_split(config: "DataConfig", source: Source) -> Split:
    """The protocol's split, with validation items and few labels where they are asked for.

    Data that come in parts have them already where there is a part validation.

    Raises:
        UserError: if the data do not allow it, or the split leaks.
    """
    split = split_source(config, source)
    if config.validation and source.relevant is not None:
        raise UserError(
            "`validation`: a model of interactions is not chosen on held-out ones, which its graph holds"
        )
    if config.validation and not _has_own_validation(config, source, split):
        split = with_validation(
            split, source.labels, fraction=config.validation, seed=config.split_seed
        )
    split = draw_labeled(config, split, source)
    leaks = split.leaks if source.item_names is None else split.named_leaks(source.name_of)
    check_leaks(split, leaks, allow=config.allow_leak)  # before equal inputs are looked for
    return split


def _has_own_validation(config: "DataConfig", source: Source, split: Split) -> bool:
    is_own = resolve_protocol(config.protocol, source.items_by_part) == OWN_PARTS
    return is_own and len(split.validation) > 0


def examine(
    config: "DataConfig",
    method: str | None,
    source: Source,
    split: Split,
    form: AnyForm,
    class_similarity: ClassSimilarity,
    console: Console | None,
) -> Findings:
    """Examines the data, and returns leaks, notes and warnings.

    Args:
        config: the configuration of the data.
        method: name of the method; None for an objective of the user's own.
        source: the data as the set has them.
        split: how they are split.
        form: what the model's inputs are.
        class_similarity: what is known of the meaning of the labels.
        console: where progress is printed.

    Raises:
        UserError: if the split leaks, or the labels tell the method nothing.
    """
    large = large_parts(source.inputs)
    if large:
        equal = EqualInputs({}, [], " ".join(part.fingerprint for part in large))
    else:
        equal = EqualInputs(
            *broadcast_from_host0(lambda: find_equal_inputs(split, source.inputs, console))
        )
    sizes = {name: len(items) for name, items in split.parts.items()}
    leaks, few = equal_input_leaks(equal.counts, sizes)
    named = name_examples(equal, source.name_of)
    check_leaks(split, [*split.leaks, *leaks, *named * bool(leaks)], allow=config.allow_leak)
    leaks = [*split.leaks, *leaks]
    is_known = class_similarity.embeddings is not None
    if method is not None and METHODS[method].kind not in ("unsupervised", "interactions"):
        check_learnable(
            split.training_labels(source.labels)[split.train],
            source.class_names,
            method,
            # One label of each class is enough for a classifier.
            own_classes=is_known or split.labeled is not None,
        )
    others = {name: items for name, items in split.parts.items() if name != "train"}
    notes = describe_source(config, source) + [part.left_unchecked for part in large]
    if config.validation and _has_own_validation(config, source, split):
        notes.append(
            f"--validation {config.validation:g} is not used: the data have a part validation"
        )
    if split.labeled is not None:
        notes.append(_describe_labeled(split, method))
    searched = source.labels[split.query], source.labels[split.database]
    is_known |= split.relevant is not None
    useless, less = ([], []) if is_known else check_relevance(*searched)
    return Findings(
        equal.counts,
        _digest(split, source, equal),
        leaks,
        notes=[*notes, *named, *less],
        warnings=[*form.warnings(source.inputs, others), *few, *useless],
    )


def _describe_labeled(split: Split, method: str | None) -> str:
    """Returns a note on the training items without a label, and on what a method does with them."""
    known = (
        f"the labels of {len(split.labeled):,} of the {len(split.train):,} training items are known"
    )
    if method is None:
        return f"{known}; the others have none, and the objective does with them as it likes"
    if METHODS[method].uses_unlabeled:
        return f"{known}; {method} learns from the others too"
    return f"{known}; for {method} the others are padding"


def _digest(split: Split, source: Source, equal: EqualInputs) -> str:
    """Returns a digest of the items of a split with their labels and inputs."""
    digest = hashlib.sha256(split.sha256.encode() + equal.sha256.encode())
    for rows in row_blocks(len(source.labels), source.labels[:1].size * 8):
        digest.update(source.labels[rows].astype("<i8"))
    return digest.hexdigest()

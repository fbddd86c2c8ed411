"""Says in words and in a table what was found."""

import numpy as np

from jaxhash.retrieval.near_duplicates.find import NearDuplicates
from jaxhash.retrieval.near_duplicates.groups import Groups
from jaxhash.retrieval.near_duplicates.links import is_large


def radius_table(found: NearDuplicates) -> tuple[list[str], list[list[str]]]:
    """Returns the titles and the rows of a table of what is near, and linked, at each radius up to the given one.

    Args:
        found: the pairs.
    """
    has_labels = any(each.labeled for each in found.counts)
    titles = ["radius", "pairs", *["same label"] * has_labels]
    rows = []
    for counts in found.counts:
        share = f"{counts.same_label / counts.labeled:.1%}" if counts.labeled else "-"
        rows.append([f"{counts.radius}", f"{counts.pairs:,}", *[share] * has_labels])
    if found.links is not None:
        titles += ["linked groups", "largest", "farthest"]
        for row, links in zip(rows, found.links, strict=True):
            row += [f"{links.groups:,}", f"{links.largest:,}", f"{links.farthest}"]
    return titles, rows


def describe_groups(found: NearDuplicates, groups: Groups, keep: str) -> list[str]:
    """Returns sentences on groups: how many there are, of how many labels, and what to beware of.

    Args:
        found: the pairs.
        groups: the groups.
        keep: the rule by which items are kept.
    """
    if not len(groups.kept):
        return [f"none of {found.items:,} items is a near duplicate within radius {found.radius}"]
    share = len(groups.duplicates) / found.items
    of = "of the other index" if found.others is not None else f"kept ({keep})"
    count, duplicates = len(groups.kept), len(groups.duplicates)
    lines = [
        f"{count:,} group{'s' * (count > 1)}: {duplicates:,} duplicate{'s' * (duplicates > 1)} ({share:.1%} of "
        f"{found.items:,} items) of {count:,} item{'s' * (count > 1)} {of}"
    ]
    largest = int(groups.sizes.max()) + 1
    lines.append(f"the largest group has {largest:,} items")
    if (found.names.labels >= 0).any():
        lines.append(f"groups with more than one label: {count_mixed(found, groups):,}")
    if is_large(largest, found.items):
        lines.append(
            "groups this large are hardly copies of one image: codes that were trained with labels are equal "
            "within a class; look at the groups before you remove anything"
        )
    return lines


def count_mixed(found: NearDuplicates, groups: Groups) -> int:
    """Returns the number of groups with items of more than one label; items without one do not count."""
    labels = found.names.labels_of(groups.duplicates)
    kept = found.other_names.labels_of(groups.kept)
    unknown = len(found.names.vocabulary)  # above all labels, as -1 is below them
    lowest, lowest_kept = (np.where(each < 0, unknown, each) for each in (labels, kept))
    starts = groups.starts[:-1]
    lowest = np.minimum(np.minimum.reduceat(lowest, starts), lowest_kept)
    highest = np.maximum(np.maximum.reduceat(labels, starts), kept)
    return int((lowest < highest).sum())

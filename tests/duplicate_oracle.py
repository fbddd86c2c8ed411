"""Groups of near duplicates by Python: every pair of items, one after another."""

import numpy as np
from scipy.sparse.csgraph import connected_components
from search_oracle import all_distances


def sort_by_rule(items, rule):
    """Items, ids with what a rule compares, in keep order."""
    keys = {
        "first": lambda item: item.id,
        "last": lambda item: -item.id,
        "largest": lambda item: (-item.size, item.id),
        "smallest": lambda item: (item.size, item.id),
        "oldest": lambda item: (item.mtime_ns, item.id),
        "newest": lambda item: (-item.mtime_ns, item.id),
    }
    return sorted(items, key=keys[rule])


def star(ids, codes, radius):
    """Maps each kept id to its duplicates, (distance, id); ids are in keep order.

    Items of equal codes stay together.
    """
    distances, groups, nearest = all_distances(codes, codes), {}, {}
    for row, (id, code) in enumerate(zip(ids, map(bytes, codes), strict=True)):
        if code not in nearest:
            kept = [(distances[row, place], place) for place in groups]
            kept = [each for each in kept if each[0] <= radius] or [(0, row)]
            nearest[code] = min(kept)
        distance, place = nearest[code]
        groups.setdefault(place, [])
        if place != row:
            groups[place].append((distance, id))
    return {ids[row]: sorted(group) for row, group in groups.items() if group}


def components(ids, codes, radius):
    """Likewise, of all items that pairs link."""
    distances = all_distances(codes, codes)
    _, numbers = connected_components(distances <= radius, directed=False)
    groups = {}
    for number in np.unique(numbers):
        first, *rows = np.flatnonzero(numbers == number)
        if rows:
            groups[ids[first]] = sorted((distances[first, row], ids[row]) for row in rows)
    return groups


def against(ids, codes, other_ids, others, radius):
    """Likewise, of the kept items of another index and the items near them."""
    distances, groups = all_distances(codes, others), {}
    for row, id in enumerate(ids):
        distance, nearest = min(zip(distances[row], range(len(others)), strict=True))
        if distance <= radius:
            groups.setdefault(other_ids[nearest], []).append((distance, id))
    return {kept: sorted(group) for kept, group in groups.items()}


def as_dict(groups):
    """Groups as the functions above return them."""
    members = list(zip(groups.distances.tolist(), groups.duplicates.tolist(), strict=True))
    bounds = zip(groups.starts[:-1], groups.starts[1:], strict=True)
    pairs = zip(groups.kept.tolist(), bounds, strict=True)
    return {kept: members[start:stop] for kept, (start, stop) in pairs}

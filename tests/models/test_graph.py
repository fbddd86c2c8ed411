"""The encoder of users and items against its formula in loops."""

import jax
import numpy as np
import pytest

from jaxhash.models import GraphEncoder

USERS, ITEMS, BITS = 3, 4, 5
MODEL = GraphEncoder(USERS, ITEMS, BITS, embedding=6, width=7)
NODES = np.array([[0, 3, 5, -1], [2, -1, -1, -1], [4, 0, 1, 2], [6, -1, 2, -1]], np.int32)
VARIABLES = MODEL.init(jax.random.key(0), NODES)


def leaky(x):
    return np.where(x > 0, x, 0.01 * x)


def formula(row):
    params = jax.tree.map(np.asarray, VARIABLES["params"])
    kind = lambda node: "user" if node < USERS else "item"  # noqa: E731

    def z(node):
        layer = params[f"embed_{kind(node)}"]
        vector = params[f"{kind(node)}s"][node if node < USERS else node - USERS]
        return leaky(vector @ layer["kernel"] + layer["bias"])

    node, around = row[0], [z(each) for each in row[1:] if each >= 0]
    mean = np.mean(around, axis=0) if around else np.zeros(7)
    x = leaky(np.concatenate([z(node), mean]) @ params[f"aggregate_{kind(node)}"]["kernel"])
    head = params[f"head_{kind(node)}"]
    return x @ head["kernel"] + head["bias"]


def test_loops_over_the_formula():
    expected = [formula(row) for row in NODES.tolist()]
    np.testing.assert_allclose(MODEL.apply(VARIABLES, NODES), expected, rtol=1e-5, atol=1e-6)


def test_views_are_encoded_one_by_one():
    views = NODES[:2], NODES[2:]
    found = MODEL.apply(VARIABLES, views)
    for view, codes in zip(views, found, strict=True):
        np.testing.assert_allclose(codes, MODEL.apply(VARIABLES, view), rtol=1e-6)


def test_the_order_of_neighbors_and_empty_places_do_not_matter():
    moved = NODES[:, [0, 3, 2, 1]]
    more = np.pad(moved, ((0, 0), (0, 2)), constant_values=-1)
    expected = MODEL.apply(VARIABLES, NODES)
    for nodes in (moved, more):
        np.testing.assert_allclose(MODEL.apply(VARIABLES, nodes), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("wrong", [NODES.astype(np.float32), NODES[0]])
def test_what_is_no_row_of_nodes_is_refused(unchecked, wrong):
    with pytest.raises(ValueError, match="a graph encoder takes integers"):
        MODEL.apply(VARIABLES, wrong)

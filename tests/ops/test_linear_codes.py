"""BCH codes against the distance that their generator polynomials guarantee."""

import numpy as np
import pytest

from jaxhash.ops._linear_codes import _bch_generators, hamming_weights, span


@pytest.mark.parametrize("degree", [3, 4])
def test_bch_codes_have_their_designed_distance(degree):
    """The minimum weight of the code is at least the number of consecutive roots plus one."""
    length = (1 << degree) - 1
    for generator, designed in _bch_generators(degree):
        size = length - generator.bit_length() + 1
        words = span([generator << i for i in range(size)], length)
        assert len(np.unique(words)) == 1 << size
        assert hamming_weights(words)[1:].min() >= designed

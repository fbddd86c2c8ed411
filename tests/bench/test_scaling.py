"""Series, their exponents, and the rule by which a loss stops."""

import numpy as np
import pytest

from jaxhash.bench.compiled_loss import CompiledLoss
from jaxhash.bench.measure import Measurement
from jaxhash.bench.scaling import fit_exponent, group_into_series, num_fitted, reason_to_stop


def point(loss="select", batch=128, bits=64, median=1.0, which="forward", dtype="float32"):
    return Measurement(
        loss, which, batch, bits, dtype, 1, 5, median, [median, median], 0.1, 9, 9, 0.5
    )


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0, 2.75])
def test_exponent_of_a_power_law(power):
    sizes = [2**i for i in range(7, 21)]
    assert fit_exponent(sizes, [3e-9 * n**power for n in sizes]) == pytest.approx(power, abs=1e-9)


def test_exponent_is_of_the_larger_half():
    """Seven of fourteen, seven of thirteen; the cost of a call at the small ones does not count."""
    for count in (14, 13):
        sizes = [2**i for i in range(count)]
        seconds = [5.0] * (count - 7) + [n**1.5 for n in sizes[-7:]]
        assert fit_exponent(sizes, seconds) == pytest.approx(1.5)
        seconds[-7] *= 2
        assert fit_exponent(sizes, seconds) < 1.49
    assert [num_fitted(n) for n in (3, 4, 5, 6, 7, 8)] == [3, 3, 3, 3, 4, 4]


def test_exponent_is_least_squares():
    x, y = np.log([1.0, 2.0, 8.0]), np.array([0.1, 1.0, 1.7])
    slope = ((x - x.mean()) * (y - y.mean())).sum() / ((x - x.mean()) ** 2).sum()
    assert fit_exponent([1, 2, 8], list(np.exp(y))) == pytest.approx(slope)


def test_series_that_cross():
    """Twice three sizes with one in common, in any order; of another loss, a point on each."""
    batches = [point(batch=n, median=float(n)) for n in (512, 128, 256)]
    widths = [point(batch=128, bits=b, median=float(b) ** 2) for b in (32, 8)]
    lonely = [point(loss="ot"), point(which="forward+backward"), point(dtype="bfloat16")]
    over_batch, over_bits = group_into_series(batches + widths + lonely)
    assert (over_batch.axis, over_batch.at, over_batch.sizes) == ("batch", 64, [128, 256, 512])
    assert (over_bits.axis, over_bits.at, over_bits.sizes) == ("bits", 128, [8, 32, 64])
    assert over_batch.exponent == pytest.approx(1.0)
    assert over_batch.to_json() == {
        "loss": "select",
        "which": "forward",
        "dtype": "float32",
        "devices": 1,
        "axis": "batch",
        "at": 64,
        "exponent": over_batch.exponent,
        "fitted_sizes": [128, 256, 512],
    }
    assert group_into_series(batches[:2])[0].exponent is None


def test_series_of_compiled_programs_are_of_bytes():
    points = [
        CompiledLoss("l2", "forward", n, 64, "float32", 8, 1, count, 0, 0, 0.1, 9, 9)
        for n, count in ((128, 10), (256, 40), (512, 160))
    ]
    (over_batch,) = group_into_series(points)
    assert over_batch.sizes == [128, 256, 512] and over_batch.values == [10, 40, 160]
    assert over_batch.exponent == pytest.approx(2.0)
    assert over_batch.quantity.startswith("bytes")


@pytest.mark.parametrize(
    ("previous", "size", "said"),
    [
        ([], 10**9, None),
        ([(1, 10.0)], 2, None),
        ([(1, 10.1)], 2, "took 10.1 s"),
        ([(1, 5.0), (2, 5.0)], 10**9, None),  # flat
        ([(1, 2.5), (2, 5.0)], 8, None),  # to 20 s, twice the limit
        ([(1, 2.5), (2, 5.0)], 9, "about 22.5 s"),
        ([(1, 0.001), (2, 5.0), (4, 6.0)], 8, None),  # the last two, not the first
    ],
)
def test_stop(previous, size, said):
    reason = reason_to_stop(previous, size, limit=10.0)
    assert (reason is None) if said is None else (said in reason and "limit of 10 s" in reason)

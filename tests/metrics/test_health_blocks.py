"""Health is that of the whole, however the codes are held and in whatever blocks they are read."""

import tracemalloc

import numpy as np
import pytest

from jaxhash.metrics import CodeFormat, _bits, _health, code_health, quantization_error

N, BITS = 300, 21
RNG = np.random.default_rng(0)
REAL = RNG.normal(0.2, size=(N, BITS)).astype(np.float32)
REAL[:, 4] = -REAL[:, 3]
REAL[N // 2 :, :] = REAL[: N // 2]
SIGNS = np.where(REAL >= 0, 1, -1).astype(np.int8)
IDS = RNG.integers(-1, 7, N)
MULTI_HOT = (RNG.random((N, 5)) < 0.3).astype(np.int8)

FORMS = {
    "bool": REAL >= 0,
    "0/1": (REAL >= 0).astype(np.int32),
    "-1/+1": SIGNS,
    "packed": np.packbits(REAL >= 0, axis=1),
}
MEASURES_OF_REAL_VALUES = {"quantization_error", "wasserstein_to_signs"}


@pytest.fixture(params=[2**13, 7])
def rows(request, monkeypatch):
    monkeypatch.setattr(_bits, "_ROWS", request.param)
    monkeypatch.setattr(_bits, "_TABLE", 3 * 7)  # three bits at a time
    monkeypatch.setattr(_health, "_VALUES", 2 * N)  # two columns at a time


@pytest.mark.parametrize("labels", [None, IDS, MULTI_HOT], ids=["none", "ids", "multi-hot"])
def test_every_form_and_every_block_have_the_same_health(labels, rows):
    expected = code_health(SIGNS, labels).to_json()
    for kind, codes in FORMS.items():
        found = code_health(codes, labels, form=CodeFormat(kind, BITS)).to_json()
        assert found == expected, kind
    found = code_health(REAL, labels).to_json()
    assert {k: v for k, v in found.items() if k not in MEASURES_OF_REAL_VALUES} == {
        k: v for k, v in expected.items() if k not in MEASURES_OF_REAL_VALUES
    }
    assert found["quantization_error"] == pytest.approx(np.mean((np.abs(REAL) - 1) ** 2), rel=1e-6)
    assert quantization_error(REAL) == pytest.approx(found["quantization_error"], rel=1e-12)


def test_real_values_of_a_form_that_are_not_measured():
    infinite = REAL.copy()
    infinite[0, 0] = np.inf
    for codes, zero in ((infinite, "+1"), (REAL, "-1")):
        found = code_health(codes, form=CodeFormat("real-valued", BITS, zero))
        assert found.quantization_error is None and found.wasserstein_to_signs is None


@pytest.mark.parametrize("width", [1, 2, 3, 8, 11])
def test_buckets_of_every_length_of_code(width):
    packed = RNG.integers(0, 3, (500, width)).astype(np.uint8)
    _, sizes = np.unique(packed, axis=0, return_counts=True)
    found = code_health(packed, form=CodeFormat("packed", 8 * width)).buckets
    assert (found.distinct, found.largest) == (len(sizes), sizes.max())


def test_memory_is_a_few_times_that_of_packed_codes():
    """Unpacked they would be eight times as large, and sixteen with a copy."""
    packed = RNG.integers(0, 256, (150_000, 32)).astype(np.uint8)
    tracemalloc.start()
    code_health(packed, form=CodeFormat("packed", 256))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 3 * packed.nbytes + 2**24

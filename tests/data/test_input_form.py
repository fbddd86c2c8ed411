"""Form of a model's inputs: measured on the training items, stored, checked; warnings."""

import dataclasses
import json

import numpy as np
import pytest

from jaxhash import models
from jaxhash.data.form_files import read_input_form, write_input_form
from jaxhash.data.input_form import InputForm, measure_inputs
from jaxhash.utils.errors import UserError

PREPROCESSING = dataclasses.asdict(models.CENTRED)
RNG = np.random.default_rng(0)
VECTORS = (RNG.normal(size=(500, 16)) * RNG.lognormal(size=(500, 1))).astype(np.float32)
IMAGES = RNG.integers(0, 256, (40, 4, 4, 3)).astype(np.uint8)
TRAIN = np.arange(100, 300)


def rms(values):
    return np.sqrt(np.mean(np.square(values, dtype=np.float64)))


@pytest.mark.parametrize("size", [1.0, 1e-6, 1e30])
def test_training_vectors_are_scaled_to_rms_1(size):
    vectors = VECTORS * np.float32(size)
    form = measure_inputs(vectors, TRAIN)
    np.testing.assert_allclose(form.scale, 1 / rms(vectors[TRAIN]), rtol=1e-6)
    assert rms(form.prepare(vectors)[TRAIN]) == pytest.approx(1.0)
    assert form.prepare(vectors)[3].dtype == np.float32 and len(form.prepare(vectors)) == 500
    np.testing.assert_allclose(
        form.size, np.median([rms(vector) for vector in vectors[TRAIN]]), rtol=1e-6
    )
    assert (form.least, form.most) == (vectors[TRAIN].min(), vectors[TRAIN].max())


def test_a_vector_is_the_same_input_whatever_is_beside_it():
    """The model's own set, a few of its items, and another order give the same bits."""
    form = measure_inputs(VECTORS, TRAIN)
    whole = form.prepare(VECTORS)[np.arange(20)]
    np.testing.assert_array_equal(form.prepare(VECTORS[:20])[:], whole)
    np.testing.assert_array_equal(form.prepare(VECTORS[19::-1])[::-1], whole)


def test_measures_do_not_depend_on_the_blocks(monkeypatch):
    whole = measure_inputs(VECTORS, TRAIN)
    monkeypatch.setattr("jaxhash.data.rows.BLOCK_BYTES", 1_000)
    assert measure_inputs(VECTORS, TRAIN) == whole


def test_vectors_that_are_all_zero_stay_zero():
    form = measure_inputs(VECTORS * 0, TRAIN)
    assert form.scale == 1.0 and not form.prepare(VECTORS * 0)[:].any()


@pytest.mark.parametrize("size", [1e-39, 1e38])
def test_vectors_that_float32_cannot_scale(size):
    with pytest.raises(UserError, match="float32 cannot scale to 1"):
        measure_inputs(np.full((3, 2), size, np.float32), np.arange(3))


def test_images_are_not_scaled():
    form = measure_inputs(IMAGES, np.arange(30), image_size=8, preprocessing=PREPROCESSING)
    assert form.prepare(IMAGES) is IMAGES and form.scale is None
    assert (form.kind, form.shape, form.dtype) == ("images", (4, 4, 3), "uint8")


# What is odd


def odd(form, inputs, items=None):
    return list(
        form.warnings(inputs, {"query": np.arange(len(inputs)) if items is None else items})
    )


@pytest.mark.parametrize(
    ("factor", "told"), [(1, False), (3, False), (0.4, False), (5, True), (0.2, True), (255, True)]
)
def test_items_of_another_range_than_the_training_items(factor, told):
    form = measure_inputs(VECTORS, TRAIN)
    found = odd(form, VECTORS * np.float32(factor))
    assert len(found) == told and all("the query items are" in sentence for sentence in found)
    images = measure_inputs((IMAGES // 5).clip(20), np.arange(30), preprocessing=PREPROCESSING)
    lighter = (IMAGES // 5).clip(20).astype(float) * factor
    if factor < 6:
        assert len(odd(images, lighter.astype(np.uint8))) == 1 + told  # and that they are dark


def test_a_few_rows_of_a_heavy_tail_are_not_odd():
    form = measure_inputs(VECTORS, TRAIN)
    assert odd(form, VECTORS, np.argsort(np.abs(VECTORS).max(axis=1))[200:300]) == []


@pytest.mark.parametrize(("most", "told"), [(255, 0), (100, 0), (63, 1), (16, 1), (1, 1)])
def test_digits_from_0_to_16_where_bytes_are_meant(most, told):
    images = (IMAGES.astype(int) * most // 255).astype(np.uint8)
    found = odd(measure_inputs(images, np.arange(40), preprocessing=PREPROCESSING), images)
    assert len(found) == told and all(f"from 0 to {most}" in sentence for sentence in found)


def test_black_images_have_no_ratio():
    form = measure_inputs(IMAGES * 0, np.arange(40), preprocessing=PREPROCESSING)
    assert len(odd(form, IMAGES)) == 1


@pytest.mark.parametrize(
    ("inputs", "said"),
    [
        (VECTORS[:, :8], "takes vectors of 16 dimensions of float32, and these are vectors of 8"),
        (IMAGES, "these are images 4 x 4 x 3 of uint8"),
        (VECTORS.astype(np.float64), "of float64"),
    ],
)
def test_inputs_of_another_form(inputs, said):
    form = measure_inputs(VECTORS, TRAIN)
    form.check(VECTORS[:2], "f.npz", PREPROCESSING)
    with pytest.raises(UserError, match=said):
        form.check(inputs, "f.npz", PREPROCESSING)


def test_images_prepared_in_another_way():
    form = measure_inputs(IMAGES, np.arange(30), preprocessing=PREPROCESSING)
    form.check(IMAGES, "some", PREPROCESSING)
    with pytest.raises(UserError, match="some: the model was trained on images prepared by"):
        form.check(IMAGES, "some", PREPROCESSING | {"bgr": True})


# The file

FORMS = {
    "vectors": measure_inputs(VECTORS, TRAIN),
    "images": measure_inputs(
        IMAGES, np.arange(30), image_size=224, preprocessing=PREPROCESSING | {"channels": 3}
    ),
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_the_file_holds_every_bit_and_is_written_once(tmp_path, form):
    assert read_input_form(tmp_path, "features:f.npz") is None
    write_input_form(tmp_path, form, "some")
    write_input_form(tmp_path, dataclasses.replace(form, least=-9.0), "some")
    assert read_input_form(tmp_path, "features:f.npz") == form
    with pytest.raises(UserError, match="began with other data"):
        write_input_form(tmp_path, form, "other")


def test_a_training_that_kept_no_scale(tmp_path):
    """Vectors cannot be checked without it; images need none."""
    (tmp_path / "checkpoints" / "8").mkdir(parents=True)
    assert read_input_form(tmp_path, "digits") is None
    with pytest.raises(UserError, match="has no inputs.json"):
        read_input_form(tmp_path, "features:f.npz")


DAMAGE = {
    "no object": "[]",
    "no JSON": "{",
    "nothing": "",
    "a field less": {"scale": ...},
    "a field more": {"other": 1},
    "another kind": {"kind": "sounds"},
    "a list as kind": {"kind": []},
    "scale is text": {"scale": "1"},
    "scale is true": {"scale": True},
    "scale is missing": {"scale": None},
    "scale is not finite": {"scale": float("nan")},
    "shape of an image": {"shape": [4, 4, 3]},
    "shape is a number": {"shape": 16},
    "shape of nothing": {"shape": [0]},
    "image size": {"image_size": 8},
    "dtype": {"dtype": "uint8"},
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_file_that_is_damaged(tmp_path, damage):
    content = damage
    if isinstance(damage, dict):
        fields = FORMS["vectors"].to_json() | damage
        content = json.dumps({name: value for name, value in fields.items() if value is not ...})
    (tmp_path / "inputs.json").write_text(content)
    with pytest.raises(UserError) as caught:
        read_input_form(tmp_path, "features:f.npz")
    line = str(caught.value)
    assert line.startswith(str(tmp_path / "inputs.json")) and "\n" not in line


def test_the_form_is_that_of_its_json():
    form = FORMS["images"]
    assert InputForm.from_json(json.loads(json.dumps(form.to_json()))) == form


def test_files_of_older_versions_say_nothing_of_crop_and_interpolation():
    content = FORMS["images"].to_json()
    content["preprocessing"] = {
        name: value
        for name, value in content["preprocessing"].items()
        if name not in ("crop", "interpolation")
    }
    assert InputForm.from_json(content) == FORMS["images"]


def test_how_files_are_resized():
    lite2 = models.backbone_factory("efficientnet-lite2", image_size=96)().preprocessing
    form = measure_inputs(
        IMAGES, np.arange(3), image_size=96, preprocessing=dataclasses.asdict(lite2)
    )
    assert form.resize == (96, 260 / 292, "bicubic")
    assert dataclasses.replace(form, preprocessing={}).resize == (96, 1.0, "bilinear")
    assert dataclasses.replace(form, image_size=None).resize is None

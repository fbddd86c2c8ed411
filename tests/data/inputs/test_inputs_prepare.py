"""Images and vectors in the form of a hash function, against files read as in training."""

import io

import numpy as np
import pytest
from PIL import Image

from jaxhash.data.input_form import InputForm
from jaxhash.data.inputs.prepare import describe_form, prepare_image, prepare_vectors
from jaxhash.data.readers.images import read_image
from jaxhash.utils.errors import UserError

COLORS = np.random.default_rng(0).integers(0, 256, (40, 60, 3)).astype(np.uint8)
GRAY = np.broadcast_to(COLORS[..., :1], COLORS.shape)


def form(shape, image_size=None):
    return InputForm("images", shape, "uint8", 0.0, 255.0, 100.0, None, image_size, {})


ANY = form((24, 24, 3), 24)
VECTORS = InputForm("vectors", (3,), "float32", -1.0, 1.0, 1.0, 0.5)


@pytest.mark.parametrize("name", ["a.png", "with 'quotes\" and\nlines.png", "猫 ü.jpg"])
def test_a_file_is_read_as_in_training_under_any_name(tmp_path, name):
    path = tmp_path / name
    Image.fromarray(COLORS).save(path)
    expected = read_image(path, 24).pixels
    for image in (path, str(path)):
        np.testing.assert_array_equal(prepare_image(image, ANY), expected)


def test_an_open_image_counts_as_its_file_and_stays_as_it_is(tmp_path):
    """A JPEG that is four times too large is decoded at a fraction of its size, which pixels are not."""
    path = tmp_path / "a.jpg"
    large = Image.fromarray(np.kron(COLORS, np.ones((8, 8, 1), np.uint8)))
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    large.save(path, exif=exif)
    with Image.open(path) as image:
        np.testing.assert_array_equal(prepare_image(image, ANY), prepare_image(path, ANY))
        assert image.size == (480, 320)
        image.load()
        loaded = prepare_image(image, ANY)
        assert image.size == (480, 320) and image.getexif()[0x0112] == 6
    difference = np.abs(loaded.astype(int) - prepare_image(path, ANY)).mean()
    assert 0 < difference < 3


def test_pixels_of_another_size_are_resized_as_files_are(tmp_path):
    Image.fromarray(COLORS).save(tmp_path / "a.png")
    expected = prepare_image(tmp_path / "a.png", ANY)
    for image in (COLORS, Image.fromarray(COLORS)):
        np.testing.assert_array_equal(prepare_image(image, ANY), expected)
    gray = prepare_image(GRAY, ANY)
    for image in (GRAY[..., 0], GRAY[..., :1], Image.fromarray(GRAY[..., 0].copy())):
        np.testing.assert_array_equal(prepare_image(image, ANY), gray)


def test_transparent_pixels_are_white():
    image = Image.new("RGBA", (24, 24), (255, 0, 0, 0))
    assert (prepare_image(image, ANY) == 255).all()


def test_gray_images_fit_either_number_of_channels():
    exact = form((40, 60, 1))
    for image in (GRAY, GRAY[..., 0], Image.fromarray(GRAY.copy()), GRAY[..., :1]):
        np.testing.assert_array_equal(prepare_image(image, exact), GRAY[..., :1])
    np.testing.assert_array_equal(prepare_image(GRAY[..., 0], form((40, 60, 3))), GRAY)
    with pytest.raises(UserError, match="gray images of 40 x 60 .*colors"):
        prepare_image(COLORS, exact)


def test_size_on_the_device_does_not_make_other_sizes_fit():
    """Images of 8 x 8 that the network resizes to 24 x 24 come as 8 x 8."""
    with pytest.raises(UserError, match="8 x 8 pixels, and this is 40 x 60"):
        prepare_image(COLORS, form((8, 8, 3), 24))


@pytest.mark.parametrize(
    ("image", "named"),
    [
        (COLORS.astype(np.float32), "float32"),
        (COLORS > 100, "bool"),
        (np.zeros((24, 24, 4), np.uint8), "(24, 24, 4)"),
        (np.zeros((3, 24, 24), np.uint8), "(3, 24, 24)"),
        (np.zeros((0, 24, 3), np.uint8), "(0, 24, 3)"),
        (np.zeros(24, np.uint8), "(24,)"),
        (None, "NoneType"),
        (b"bytes", "bytes"),
    ],
)
def test_what_is_no_image_is_refused(image, named):
    with pytest.raises(UserError) as error:
        prepare_image(image, ANY)
    assert named in str(error.value)


def test_files_that_cannot_be_read_are_named_once(tmp_path):
    (tmp_path / "no image\n.png").write_bytes(b"nothing")
    for name in ("missing.png", "no image\n.png"):
        with pytest.raises(UserError) as error:
            prepare_image(tmp_path / name, ANY)
        line = str(error.value)
        assert line.count(name.split("\n")[0]) == 1 and "\n" not in line
    buffer = io.BytesIO()
    Image.fromarray(COLORS).save(buffer, "PNG")
    cut = Image.open(io.BytesIO(buffer.getvalue()[:3000]))
    with pytest.raises(UserError, match="cannot be read"):
        prepare_image(cut, ANY)


def test_the_other_kind_is_refused():
    with pytest.raises(UserError, match="takes vectors of 3 dimensions, not images"):
        prepare_image(COLORS, VECTORS)
    with pytest.raises(UserError, match="takes images of any size, not vectors"):
        prepare_vectors(np.ones((2, 3)), ANY)
    assert describe_form(form((8, 9, 4))) == "images of 4 channels of 8 x 9 pixels"


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8"])
def test_vectors_become_float32_and_are_not_scaled(dtype):
    vectors = np.array([[1.5, -2.0, 0.25]], dtype)
    for given in (vectors, list(vectors)):
        found = prepare_vectors(given, VECTORS)
        assert found.dtype == np.float32 and found.tolist() == [[1.5, -2.0, 0.25]]
    assert prepare_vectors([], VECTORS).shape == (0, 3)


@pytest.mark.parametrize(
    ("vectors", "named"),
    [
        (np.zeros(3), "brackets"),
        (np.zeros((2, 4)), "shape"),
        (np.zeros((2, 3), np.int8), "int8"),
        ([[1.0, 2.0], [1.0]], "no array"),
        (["a.npy"], "numpy.load"),
        ([None], "NoneType"),
    ],
)
def test_vectors_of_another_form_are_refused(vectors, named):
    with pytest.raises(UserError, match=named):
        prepare_vectors(vectors, VECTORS)

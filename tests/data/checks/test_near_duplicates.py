"""Near duplicates in a split against planted ones and against a search of all pairs."""

import json
import math

import numpy as np
import PIL.Image
import pytest

from jaxhash.cli.main import main
from jaxhash.data.checks import near_duplicates
from jaxhash.data.checks.input_codes import luminance, make_input_coder, perceptual_hash
from jaxhash.data.checks.near_duplicates import find_near_duplicates, near_duplicate_warnings
from jaxhash.data.splits import Split


def photographs(count, side=64, seed=0):
    """Smooth random pictures of three channels."""
    coarse = np.random.default_rng(seed).integers(0, 200, (count, 17, 17, 3), np.uint8)
    size = (side, side)
    return np.stack(
        [np.array(PIL.Image.fromarray(each).resize(size, PIL.Image.BICUBIC)) for each in coarse]
    )


def cropped(image, border=1):
    """The image without its border, brought to its size again, and lighter."""
    side = len(image)
    inner = PIL.Image.fromarray(image[border:-border, border:-border]).resize((side, side))
    return np.clip(np.array(inner) * 1.1 + 20, 0, 255).astype(np.uint8)


def split_of(train, query, database=(), validation=()):
    return Split("some", *(np.array(part, int) for part in (train, query, database, validation)))


def naive_hash(image):
    """By the sums of the definition, for each frequency of each side."""
    red, green, blue = (image[..., channel].astype(float) for channel in range(3))
    gray = 0.299 * red + 0.587 * green + 0.114 * blue
    height, width = gray.shape
    frequencies = [
        sum(
            gray[y, x]
            * math.cos(math.pi * (2 * y + 1) * u / (2 * height))
            * math.cos(math.pi * (2 * x + 1) * v / (2 * width))
            for y in range(height)
            for x in range(width)
        )
        for u in range(min(16, height))
        for v in range(min(16, width))
    ]
    return [frequency > float(np.median(frequencies)) for frequency in frequencies]


def naive_counts(split, inputs):
    """For each item its distances to all others, its neighbors, and the pairs that are near."""
    coder = make_input_coder(inputs, split.train)
    items = np.unique(np.concatenate(list(split.parts.values())))
    bits = np.unpackbits(coder.encode(inputs[items]), axis=1).astype(int)
    vectors = coder.to_vectors(inputs[items])
    _, first = np.unique(bits, axis=0, return_index=True)  # neighbors have different codes
    distances = (bits[:, None] != bits[None]).sum(axis=2)
    to_neighbors = np.sort(distances[:, first], axis=1)[:, 1:17]
    reach = to_neighbors[:, -1]
    logarithms = [
        np.mean([math.log(row[-1] / near) for near in row[:-1]]) for row in to_neighbors[first]
    ]
    share = min(0.5, (1e-4 / to_neighbors.shape[1]) ** np.median(logarithms))
    least = np.median(reach[first]) / 4
    near = {
        (int(items[a]), int(items[b]))
        for a in range(len(items))
        for b in range(len(items))
        if a != b
        and distances[a, b] <= share * max(min(reach[a], reach[b]), least)
        and 2 * (vectors[a] @ vectors[b]) >= 0.75 * (vectors[a] ** 2 + vectors[b] ** 2).sum()
        and (inputs[items[a]] != inputs[items[b]]).any()
    }
    return {
        first: {
            second: len({a for a, b in near if a in set(ones) and b in set(others)})
            for second, others in split.parts.items()
        }
        for first, ones in split.parts.items()
    }


@pytest.mark.parametrize("shape", [(20, 33, 3), (8, 8, 3)])
def test_a_perceptual_hash_is_that_of_the_definition(shape):
    images = np.random.default_rng(0).integers(0, 256, (4, *shape), np.uint8)
    found = np.unpackbits(perceptual_hash(images), axis=1)
    assert found.shape == (4, min(16, shape[0]) * min(16, shape[1]))
    assert found.tolist() == [naive_hash(image) for image in images]


def test_luminance_of_any_channels():
    gray = np.full((1, 2, 2, 1), 7, np.uint8)
    np.testing.assert_allclose(luminance(gray), 7)
    np.testing.assert_allclose(luminance(np.repeat(gray, 3, axis=3)), 7, rtol=1e-6)
    np.testing.assert_allclose(luminance(np.repeat(gray, 2, axis=3)), 7)


@pytest.fixture(scope="module")
def images():
    """Items 0 to 59 are different; 60 to 65 are 0 to 5, cropped; 66 is 0 itself."""
    originals = photographs(60)
    return np.stack([*originals, *map(cropped, originals[:6]), originals[0]])


def test_cropped_pictures_are_found(images):
    """Query 66 equals an item of train, and is a near duplicate of query 60 alone."""
    split = split_of(range(30), range(60, 67), range(30, 60))
    near = find_near_duplicates(split, images)
    assert near.counts["query"] == {"train": 6, "query": 2, "database": 0}
    assert near.counts["train"] == {"train": 0, "query": 6, "database": 0}
    assert near.counts == naive_counts(split, images)
    assert len(near.examples) == 3
    for first, item, second, other, distance in near.examples:
        assert (first, second) == ("query", "train") and item - 60 == other
        assert 0 < distance < 60
    assert [each[4] for each in near.examples] == sorted(each[4] for each in near.examples)
    assert "perceptual" in near.measure


def test_vectors_with_a_little_noise_are_found():
    rng = np.random.default_rng(1)
    vectors = rng.normal(3, 1, (300, 40)).astype(np.float32)
    vectors[290:] = vectors[:10] + rng.normal(0, 0.1, (10, 40))
    vectors[289] = vectors[10]
    split = split_of(range(150), range(280, 300), range(100, 280), validation=[0, 1])
    near = find_near_duplicates(split, vectors)
    assert near.counts["query"] == {"train": 10, "validation": 2, "query": 0, "database": 0}
    assert near.counts == naive_counts(split, vectors)
    assert {each[:3:2] for each in near.examples} == {("query", "train"), ("query", "validation")}


@pytest.mark.parametrize("copies", [3, 40])
def test_many_copies_of_one_item(copies):
    """More than there are neighbors to compare with; some have equal codes."""
    rng = np.random.default_rng(2)
    vectors = rng.standard_normal((200, 30), np.float32)
    vectors[100 : 100 + copies] = vectors[0] + rng.normal(0, 0.003, (copies, 30))
    split = split_of(range(102), range(102, 200))
    near = find_near_duplicates(split, vectors)
    assert near.counts == naive_counts(split, vectors)
    assert near.counts["query"]["train"] == copies - 2


@pytest.mark.parametrize("dimensions", [1, 2, 4])
def test_vectors_of_few_dimensions_have_none_by_chance(dimensions):
    """Among 300 points in a space of few dimensions, many are near some other."""
    vectors = np.random.default_rng(3).standard_normal((300, dimensions), np.float32)
    near = find_near_duplicates(split_of(range(200), range(200, 300)), vectors)
    assert not any(value for row in near.counts.values() for value in row.values())


def test_of_many_items_those_held_out_are_compared(images, monkeypatch):
    split = split_of(range(30), range(60, 64), range(24, 60), validation=[64])
    whole = find_near_duplicates(split, images)
    monkeypatch.setattr(near_duplicates, "_MAX_COMPARED", 0)
    found = find_near_duplicates(split, images)
    assert found.examples == whole.examples and len(found.examples) == 4
    for first, row in found.counts.items():
        for second, count in row.items():
            if {first, second} & {"query", "validation"}:
                assert count == whole.counts[first][second]
            else:
                assert count is None
    assert near_duplicate_warnings(found, {"query": 4, "validation": 1}, str)


def test_the_nearest_are_found_where_too_many_pairs_are_within_the_radius(images, monkeypatch):
    """With three pairs allowed, the radius is halved once."""
    monkeypatch.setattr(near_duplicates, "_MAX_PAIRS", 3)
    monkeypatch.setattr(near_duplicates, "MAX_SHARE", 0.4)
    found = find_near_duplicates(split_of(range(30), range(60, 66), range(30, 60)), images)
    assert found.counts["query"]["train"] == 3


@pytest.mark.parametrize("count", [1, 2, 3, 9])
def test_few_items(count):
    split = split_of(range(count - 1), [count - 1])
    for inputs in (photographs(count), np.eye(count, 4, dtype=np.float32)):
        near = find_near_duplicates(split, inputs)
        assert near.examples == []
        assert not any(value for row in near.counts.values() for value in row.values())


def test_pictures_of_one_shade_are_no_near_duplicates(images):
    blank = np.repeat(np.arange(20, dtype=np.uint8) * 10, 64 * 64 * 3).reshape(20, 64, 64, 3)
    near = find_near_duplicates(
        split_of(range(70), range(70, 80)), np.concatenate([images[:60], blank])
    )
    assert near.counts["query"]["train"] == 0


def test_the_command_names_near_duplicates(tmp_path, images, capsys):
    """A warning, not a leak; the file holds all counts."""
    for item, image in enumerate(images[:66]):
        part = "test" if item >= 60 else "train"
        path = tmp_path / "pictures" / part / "ab"[item % 2] / f"{item}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        PIL.Image.fromarray(image).save(path)
    file = tmp_path / "found.json"
    main(("data", "check", "--dataset", f"folder:{tmp_path / 'pictures'}", "--json", str(file)))
    printed = capsys.readouterr().out
    found = json.loads(file.read_text())
    assert found["leaks"] == []
    assert found["near_duplicates"]["counts"]["query"]["train"] == 6
    [warning, _] = [line for line in printed.splitlines() if "near duplicate in" in line][:2]
    assert warning.startswith("warning: ") and "6 of 6 query" in warning
    first, item, second, other, _ = found["near_duplicates"]["examples"][0]
    assert first == "query" and second == "train"
    assert ".png" in warning and "test/" in warning and "train/" in warning
    assert found["near_duplicates"]["measure"] in printed

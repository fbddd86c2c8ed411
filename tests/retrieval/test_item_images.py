"""The image of an item: its thumbnail if there is one, else its file, else none."""

import pytest
from index_samples import Item, codes_of, digests_of, fill, make_index, thumbnails_of

from jaxhash.retrieval.item_images import item_image, item_images


def test_a_thumbnail_comes_before_the_file(tmp_path):
    index = fill(make_index(tmp_path / "index", thumbnails=96))
    items = index.items([8, 0])
    assert item_images(index, items) == [thumbnails_of(3, 2)[2], thumbnails_of(3, 0)[0]]
    assert item_image(index, items[0]) == thumbnails_of(3, 2)[2]


@pytest.mark.parametrize("time", [0, None])
def test_without_thumbnails_it_is_the_file_and_a_row_of_an_array_has_none(tmp_path, time):
    index = fill(make_index(tmp_path / "index"))
    index.add(codes_of(1), [Item("x.npy#0", mtime_ns=time)], digests_of(1))
    images = item_images(index, index.items([9, 4]))
    assert images == [None, index.root / "1" / "1.png"]

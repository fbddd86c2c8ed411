"""A run on an image folder: what it tells of the files, and what leads back to them."""

import json

import numpy as np
import PIL.Image

from jaxhash.data.readers import image_files
from jaxhash.data.readers.folder import read_folder

RUN = (
    "train --dataset folder:set --model mlp --bits 8 --batch-size 16 --epochs 2 --protocol per-class "
    "--queries-per-class 3 --train-per-class 8 --crop 0 --no-flip --run-dir run"
)


def test_items_of_a_folder_have_names(tmp_path, monkeypatch, output):
    """In the codes and beside the plots; what was found of the files is kept, and told."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("jaxhash.data.readers.folder.MEMORY_LIMIT", 0)
    rng = np.random.default_rng(0)
    for number in range(32):
        path = (
            tmp_path / "set" / ("Train", "TEST")[number % 2] / "ab"[number // 16] / f"{number}.tif"
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        PIL.Image.fromarray(rng.integers(0, 256, (8, 8, 3)).astype(np.uint8)).save(path)
    path.with_name("notes.txt").write_text("these are bees")
    said = output(*RUN.split())
    assert "parts of the set: Train as train, TEST as test" in said and "1 x .txt" in said
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert len(results["notes"]) >= 2
    files = {path.relative_to(tmp_path / "set").as_posix() for path in tmp_path.rglob("*.tif")}
    with np.load("run/codes.npz") as arrays:
        for side, count in (("query", 6), ("database", 10)):
            names, labels = arrays[f"{side}_names"].tolist(), arrays[f"{side}_labels"]
            assert len(set(names)) == count and set(names) <= files
            assert [name.split("/")[1] for name in names] == ["ab"[label] for label in labels]
        queries, database = (
            set(arrays[f"{side}_names"].tolist()) for side in ("query", "database")
        )
    for row in json.loads((tmp_path / "run" / "report" / "neighbours.json").read_text()):
        assert row["query"] in queries and row["query"].split("/")[1] == row["class"]
        for near in row["nearest"]:
            assert near["item"] in database
            assert near["relevant"] == (near["class"] == row["class"])
    assert "6 queries, 10 items in the database" in output("evaluate", "run/codes.npz")

    checked, try_read_image = [], image_files.try_read_image
    monkeypatch.setattr(
        image_files, "try_read_image", lambda *of: checked.append(of[0].name) or try_read_image(*of)
    )
    index = tmp_path / "run" / image_files.INDEX_NAME
    again = read_folder("folder:set", tmp_path / "set", None, 0.0, index_file=index)
    assert checked == ["0.tif"] and again.notes == tuple(results["notes"][: len(again.notes)])

"""The feature store and the extraction: each grid once, whole or not at all, never mixed."""

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from captionlens.datasets import read_dataset
from captionlens.datasets.records import Record
from captionlens.datasets.scenes import draw_scenes
from captionlens.errors import StoreError
from captionlens.features import extract as extraction
from captionlens.features.backbones import load_backbone
from captionlens.features.extract import extract
from captionlens.features.store import FeatureStore, StoreIndex, photograph_key
from helpers.cli import wait_for

INDEX = StoreIndex("some_network", "0123abcd", 2, 3, 4)


def grids(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, 6, 4)).astype(np.float16)


def test_grids_come_back_in_the_order_asked_for(tmp_path: Path) -> None:
    store = FeatureStore.create(tmp_path / "store", INDEX)
    first, second = grids(3), grids(2, seed=1)
    store.append(["a", "b", "c"], first)
    store.append(["d", "e"], second)
    for opened in (store, FeatureStore.open(tmp_path / "store")):
        assert len(opened) == 5
        assert "d" in opened
        assert "x" not in opened
        np.testing.assert_array_equal(opened.read(["e", "a", "e"]), np.stack([second[1], first[0], second[1]]))


def test_unknown_photograph_is_named(tmp_path: Path) -> None:
    store = FeatureStore.create(tmp_path / "store", INDEX)
    with pytest.raises(StoreError, match="no features of photograph x"):
        store.read(["x"])


@pytest.mark.parametrize(
    "other",
    [
        replace(INDEX, backbone="another"),
        replace(INDEX, fingerprint="ffff"),
        replace(INDEX, rows=3),
        replace(INDEX, channels=5),
    ],
)
def test_store_made_otherwise_is_refused(other: StoreIndex, tmp_path: Path) -> None:
    FeatureStore.create(tmp_path / "store", INDEX).append(["a"], grids(1))
    with pytest.raises(StoreError, match=r"store: was made otherwise \(.*wanted"):
        FeatureStore.create(tmp_path / "store", other)


def test_folder_with_other_things_is_refused(tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("dear")
    with pytest.raises(StoreError, match="is there already and is not a feature store"):
        FeatureStore.create(tmp_path, INDEX)
    with pytest.raises(StoreError, match="not a feature store"):
        FeatureStore.open(tmp_path)


@pytest.mark.parametrize("damage", ["cut", "keys", "index", "other array"])
def test_damage_is_named(damage: str, tmp_path: Path) -> None:
    folder = tmp_path / "store"
    FeatureStore.create(folder, INDEX).append(["a", "b"], grids(2))
    if damage == "cut":
        content = (folder / "shard-00000.npy").read_bytes()
        (folder / "shard-00000.npy").write_bytes(content[:-10])
    elif damage == "keys":
        (folder / "shard-00000.json").write_text('["a"')
    elif damage == "index":
        (folder / "index.json").write_text('{"format": 1, "backbone": "x"}')
    else:
        np.save(folder / "shard-00000.npy", np.zeros((2, 6, 5), np.float16))
    with pytest.raises(StoreError, match=r"shard-00000|index\.json"):
        FeatureStore.open(folder)


def test_shard_without_its_keys_is_written_anew(tmp_path: Path) -> None:
    folder = tmp_path / "store"
    FeatureStore.create(folder, INDEX).append(["a"], grids(1))
    (folder / "shard-00001.npy").write_bytes(b"half a sh")  # what a kill between the two files leaves
    store = FeatureStore.create(folder, INDEX)
    store.append(["b"], grids(1, seed=2))
    np.testing.assert_array_equal(FeatureStore.open(folder).read(["b"]), grids(1, seed=2))


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_scenes(tmp_path_factory.mktemp("scenes"), images=40, seed=3)


def test_store_holds_what_the_backbone_gives(scenes: Path, tmp_path: Path) -> None:
    records = read_dataset(scenes).records
    done = extract(records, tmp_path / "store", load_backbone("efficientnet_lite0"), bfloat16=False, progress=False)
    assert (done.extracted, done.already, done.unreadable) == (40, 0, ())
    backbone = load_backbone("efficientnet_lite0")
    chosen = [records[index] for index in (31, 0, 17)]
    images = np.stack([backbone.preprocessing.normalise(backbone.preprocessing.read(r.image)) for r in chosen])
    with torch.inference_mode():
        fresh = backbone(torch.from_numpy(images)).numpy()
    stored = done.store.read([photograph_key(record) for record in chosen]).astype(np.float32)
    assert stored.shape == (3, 49, 1280)
    # Half precision keeps 11 bits.
    np.testing.assert_allclose(stored, fresh, rtol=1e-3, atol=1e-3)

    again = extract(records, tmp_path / "store", load_backbone("efficientnet_lite0"), progress=False)
    assert (again.extracted, again.already) == (0, 40)


def test_bad_photographs_do_not_stop_the_others(scenes: Path, tmp_path: Path) -> None:
    good = read_dataset(scenes).records[:3]
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"\xff\xd8\xff not a jpeg")
    bad = [Record(path, ("a",), "train", path.stem) for path in (broken, tmp_path / "gone.jpg")]
    done = extract([good[0], *bad, *good[1:]], tmp_path / "store", load_backbone("efficientnet_lite0"), progress=False)
    assert done.extracted == 3
    assert sorted(Path(error.path).name for error in done.unreadable) == ["broken.jpg", "gone.jpg"]


def test_shard_that_cannot_be_written_ends_the_extraction(
    scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(extraction, "SHARD", 8)
    monkeypatch.setattr(extraction, "CPU_BATCH", 8)
    records, store, backbone = read_dataset(scenes).records, tmp_path / "store", load_backbone("efficientnet_lite0")
    FeatureStore.create(store, extraction.store_index(backbone))
    (store / "shard-00001.npy").mkdir()  # in the way of the second shard
    with pytest.raises(OSError, match=r"shard-00001\.npy"):
        extract(records, store, backbone, progress=False)
    assert len(FeatureStore.open(store)) == 8  # the first is there


def test_changed_photograph_is_extracted_anew(scenes: Path, tmp_path: Path) -> None:
    record = read_dataset(scenes).records[0]
    copy = replace(record, image=tmp_path / "copy.png")
    copy.image.write_bytes(record.image.read_bytes())
    store = tmp_path / "store"
    assert extract([copy], store, load_backbone("efficientnet_lite0"), progress=False).extracted == 1
    copy.image.write_bytes(read_dataset(scenes).records[1].image.read_bytes())
    assert extract([copy], store, load_backbone("efficientnet_lite0"), progress=False).extracted == 1


# Small shards, so that a small data set has several.
EXTRACT = """
import sys
from captionlens.datasets import read_dataset
from captionlens.features import extract as module
from captionlens.features.backbones import load_backbone
module.SHARD, module.CPU_BATCH = 8, 4
module.extract(read_dataset(sys.argv[1]).records, sys.argv[2], load_backbone("efficientnet_lite0"), progress=False)
"""


@pytest.mark.slow
def test_killed_extraction_goes_on_and_ends_with_the_same_store(scenes: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-c", EXTRACT, str(scenes)]
    subprocess.run([*command, str(tmp_path / "whole")], check=True)
    process = subprocess.Popen([*command, str(tmp_path / "killed")])
    wait_for(tmp_path / "killed" / "shard-00000.json", process)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    shards = len(list((tmp_path / "killed").glob("shard-*.json")))
    assert 1 <= shards < 5  # killed in the middle
    subprocess.run([*command, str(tmp_path / "killed")], check=True)
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    names = sorted(path.name for path in whole.iterdir())
    assert len(names) == 11  # five shards of two files, and the index
    assert sorted(path.name for path in killed.iterdir()) == names
    for name in names:
        assert (killed / name).read_bytes() == (whole / name).read_bytes(), name

"""`captionlens extract`: which photographs it takes."""

from pathlib import Path

from captionlens.datasets import read_dataset
from captionlens.features.store import FeatureStore, photograph_key
from helpers.cli import run_cli


def test_what_training_asks_for_is_extracted_unless_all_is_wanted(small_scenes: Path, tmp_path: Path) -> None:
    command = ["extract", small_scenes, "-o", tmp_path / "store", "--backbone=efficientnet_lite0", "--mirrored"]
    data = read_dataset(small_scenes)

    done = run_cli(*command, "--validation-photographs=5")
    assert "not extracted, as train does not ask for them: 7 of val and 12 of test (--all takes all" in done.stderr
    assert "101 photographs extracted, 0 were there" in done.stderr
    assert "96 mirrored extracted, 0 were there" in done.stderr
    store = FeatureStore.open(tmp_path / "store")
    assert all(photograph_key(record) in store for record in (*data.split("train"), *data.split("val")[:5]))
    assert all(photograph_key(record, mirrored=True) in store for record in data.split("train"))
    assert len(store) == 101 + 96

    done = run_cli(*command)
    assert "ask for them: 12 of test (--all takes all" in done.stderr
    assert "7 photographs extracted, 101 were there" in done.stderr

    done = run_cli(*command, "--all")
    assert "not extracted" not in done.stderr
    assert "12 photographs extracted, 108 were there" in done.stderr
    assert "24 mirrored extracted, 96 were there" in done.stderr
    assert len(FeatureStore.open(tmp_path / "store")) == 240

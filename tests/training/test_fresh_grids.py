"""Crops of photographs: anew each epoch, the same after a kill, with captions and boxes that fit."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from captionlens.datasets import read_dataset
from captionlens.datasets.phrase_targets import CaptionTargets
from captionlens.errors import OptionError
from captionlens.features.extract import Prepared
from captionlens.features.store import photograph_key
from captionlens.runtime.images import read_image
from captionlens.training.config import make_config
from captionlens.training.fresh_grids import FreshGrids
from captionlens.training.run_folder import DataSettings, start_run
from helpers.cli import SMALL_CAPTIONER, run_cli
from helpers.tiny_backbone import TinyBackbone


def fresh(small_scenes: Path, **changes: object) -> tuple[FreshGrids, list[str]]:
    records = read_dataset(small_scenes).split("train")[:6]
    backbone = TinyBackbone().eval()
    options: dict[str, object] = {"device": "cpu", "dtype": torch.float32, "smallest": 0.5, "seed": 1}
    grids = FreshGrids(records, backbone, **(options | changes))  # type: ignore[arg-type]
    return grids, [photograph_key(record) for record in records]


def test_grids_are_those_of_the_crop(small_scenes: Path) -> None:
    grids, keys = fresh(small_scenes, mirrored=True)
    records = read_dataset(small_scenes).split("train")[:6]
    network = Prepared(TinyBackbone().eval(), "cpu", torch.float32)
    size = TinyBackbone().preprocessing.size
    for mirrored in (False, True):
        key = photograph_key(records[2], mirrored=mirrored)
        image = read_image(records[2].image)
        if mirrored:
            image = image.transpose(0)  # type: ignore[arg-type]  # left and right
        left, top, right, bottom = (
            fraction * side for fraction, side in zip(grids.crop(key), image.size * 2, strict=True)
        )
        pixels = TinyBackbone().preprocessing.resize(image, (left, top, right, bottom))
        assert pixels.shape == (size, size, 3)
        np.testing.assert_array_equal(grids.read([key])[0].numpy(), network(np.stack([pixels]))[0])
    assert len(grids.read(keys)) == 6


def test_crops_differ_by_epoch_and_not_by_run(small_scenes: Path) -> None:
    grids, keys = fresh(small_scenes)
    first = grids.read(keys)
    again, _ = fresh(small_scenes)
    assert torch.equal(first, again.read(keys))
    grids.epoch = 1
    assert not torch.equal(first, grids.read(keys))
    other, _ = fresh(small_scenes, seed=2)
    assert not torch.equal(first, other.read(keys))


def test_what_cannot_be_read_is_left_out_before_the_first_step(small_scenes: Path, tmp_path: Path) -> None:
    records = list(read_dataset(small_scenes).split("train")[:3])
    broken = tmp_path / "broken.png"
    broken.write_bytes(records[0].image.read_bytes()[:200])
    records.append(type(records[0])(broken, ("a",), "train", "broken"))
    backbone = TinyBackbone().eval()
    grids = FreshGrids(records, backbone, device="cpu", dtype=torch.float32, smallest=0.5, seed=1)
    (error,) = grids.leave_out_unreadable()
    assert error.path == str(broken)
    assert photograph_key(records[3]) not in grids
    assert photograph_key(records[0]) in grids


def test_targets_follow_the_crop() -> None:
    coverages = np.zeros((2, 4, 4), np.float32)
    coverages[0, 0, 0] = coverages[1, 3, 3] = 1
    targets = CaptionTargets(np.array([0, -1, 1]), coverages)
    cropped = targets.cropped((0.0, 0.0, 0.5, 0.5))
    assert cropped.phrase_of_word.tolist() == [0, -1, -1]  # the other's box lies outside
    assert cropped.coverages[0, :2, :2].min() == 1
    assert cropped.coverages[0].sum() == 4


@pytest.mark.slow
def test_last_blocks_are_trained_on_crops(small_scenes: Path, tmp_path: Path) -> None:
    """The whole way: only validation's features are extracted, and boxes and mirrored photographs come along."""
    run = tmp_path / "run"
    done = run_cli(
        *("train", small_scenes, "-o", run, *SMALL_CAPTIONER, "--boxes", small_scenes, "--set=crop=0.6"),
        *("--set=attention_supervision=0.5", "--set=mirror=true", "--set=finetune_blocks=1", "--set=epochs=2"),
        "--no-export",
    )
    assert "features of 12 photographs, 12 of them new" in done.stderr
    assert "boxes for 96 of 96 training photographs" in done.stderr
    history = json.loads((run / "summary.json").read_text())["history"]
    assert history[1]["loss"] < history[0]["loss"]


def test_crops_do_not_go_with_what_knows_whole_photographs(tmp_path: Path) -> None:
    for setting in ("blanking", "distillation"):
        with pytest.raises(OptionError, match=f"crop and {setting} do not go together"):
            start_run(tmp_path / "r", DataSettings(("x",), boxes="b"), make_config("base", {"crop": 0.5, setting: 0.5}))

"""Training on several data sets at once: one vocabulary, weights of drawing, validation of each and the mean."""

import csv
import json
from pathlib import Path

import pytest

from captionlens.datasets.scenes import draw_scenes
from captionlens.runtime.model_directory import ModelDirectory
from captionlens.training.run_folder import DataSettings, open_run
from helpers.cli import SMALL_CAPTIONER, run_cli

pytestmark = pytest.mark.slow

SETTINGS = [*SMALL_CAPTIONER, "--set=epochs=2", "--set=photograph_balance=0.5"]


@pytest.fixture(scope="module")
def other_scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty more pictures, with the same names as the others'."""
    return draw_scenes(tmp_path_factory.mktemp("data") / "more", images=40, seed=9)


@pytest.fixture(scope="module")
def run(small_scenes: Path, other_scenes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("runs") / "both"
    run_cli("train", small_scenes, other_scenes, "-o", run, "--weights", "1,2.5", *SETTINGS)
    return run


def test_each_is_validated_and_the_mean_chooses(run: Path) -> None:
    summary = json.loads((run / "summary.json").read_text())
    assert summary["dataset"] == "small_scenes and more"
    with (run / "history.csv").open() as file:
        history = [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]
    assert list(history[0]) == [
        *("epoch", "loss", "val_loss", "val_cider", "val_loss_small_scenes", "val_loss_more"),
        *("val_cider_small_scenes", "val_cider_more"),
    ]
    for row in history:
        for figure in ("val_loss", "val_cider"):
            mean = (row[f"{figure}_small_scenes"] + row[f"{figure}_more"]) / 2
            assert row[figure] == pytest.approx(mean, rel=1e-5)
    assert summary["best"]["val_cider"] == max(row["val_cider"] for row in summary["history"])
    (first, *_) = (json.loads(line)["captions"] for line in (run / "samples.jsonl").read_text().splitlines())
    assert len(first) == 9  # five of the one's val, all four of the other's


def test_the_run_goes_on_with_the_same_command_only(run: Path, small_scenes: Path, other_scenes: Path) -> None:
    assert open_run(run).data.draws == (1, 2.5)
    again = run_cli("train", small_scenes, other_scenes, "-o", run, "--weights", "1,2.5", *SETTINGS)
    assert "finished already" in again.stderr
    otherwise = run_cli("train", small_scenes, other_scenes, "-o", run, *SETTINGS, code=1)
    assert "weights [1.0, 2.5], now []" in otherwise.stderr


def test_what_the_model_tells(run: Path) -> None:
    model = ModelDirectory.open(run / "model")
    assert model.config["trained_on"] == "small_scenes, more"
    assert "Data: small_scenes, more." in (run / "model" / "README.md").read_text()


def test_features_and_calibration_of_both(run: Path, small_scenes: Path, other_scenes: Path, tmp_path: Path) -> None:
    """Extraction beforehand leaves training nothing to extract; calibration pools both validations."""
    store = tmp_path / "store"
    sizes = [argument for argument in SMALL_CAPTIONER if "image_size" in argument]
    size = sizes[0].rpartition("=")[2] if sizes else None
    extracted = run_cli(
        *("extract", small_scenes, other_scenes, "-o", store, *(("--image-size", size) if size else ())),
        *("--backbone", open_run(run).config.backbone),
    )
    assert "144 photographs extracted" in extracted.stderr
    trained = run_cli(
        *("train", small_scenes, other_scenes, "-o", tmp_path / "run", "--features", store, *SETTINGS),
        "--set=epochs=1",
        "--no-export",
    )
    assert "features of 144 photographs, 0 of them new" in trained.stderr
    run_cli("model", "calibrate", run / "model", small_scenes, other_scenes)
    calibration = ModelDirectory.open(run / "model").calibration
    assert calibration is not None
    assert (calibration.record["dataset"], calibration.record["photographs"]) == ("small_scenes and more", 16)
    assert calibration.record["train_photographs"] == 128


def test_weights_that_make_no_sense(small_scenes: Path, other_scenes: Path, tmp_path: Path) -> None:
    for weights, message in (("1", "one number for each data set: 2, got 1"), ("1,0", "must be above 0")):
        done = run_cli("train", small_scenes, other_scenes, "-o", tmp_path, "--weights", weights, code=2)
        assert message in done.stderr
    assert "want numbers" in run_cli("train", small_scenes, "-o", tmp_path, "--weights", "much", code=2).stderr


def test_settings_of_version_0_1_are_read() -> None:
    before = {"dataset": "flickr8k", "layout": None, "max_captions": 9, "split_seed": 1, "features": "f"}
    assert DataSettings.from_dict(before) == DataSettings(("flickr8k",), max_captions=9, features="f")
    named = DataSettings.from_dict({"dataset": "x", "layout": "table"})
    assert named == DataSettings(("x",), ("table",))
    assert DataSettings.from_dict(named.to_dict()) == named
    table = DataSettings(("x",), columns=(("image", "Bild"), ("caption", "Text")), delimiter=";")
    assert DataSettings.from_dict(table.to_dict()) == table

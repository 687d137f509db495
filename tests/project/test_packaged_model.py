"""The captioner that comes along: small, whole, sane, and scored as the official scorers score it."""

import json
from pathlib import Path

import numpy as np
import pytest

import captionlens
from captionlens.datasets import read_dataset
from captionlens.runtime.model_directory import PACKAGED_MODEL, ModelDirectory
from captionlens.scoring.coco_files import read_references, read_results
from helpers import official_scorers
from helpers.cli import run_cli
from helpers.paths import REPOSITORY

pytestmark = pytest.mark.slow


def test_it_is_whole_and_small() -> None:
    model = ModelDirectory.open(PACKAGED_MODEL)
    assert model.config["trained_on"] == "flickr8k, everyday"
    assert "research" in model.config["licence"]
    assert sum(file.stat().st_size for file in PACKAGED_MODEL.rglob("*") if file.is_file()) < 40e6


def test_it_captions_the_example_photographs() -> None:
    photographs = sorted((REPOSITORY / "examples" / "photographs").glob("*.jpg"))
    captions = list(captionlens.load().caption_many(photographs))
    assert len({caption.text for caption in captions}) > len(captions) // 2  # not one sentence for everything
    for caption in captions:
        assert caption.error is None
        assert 3 <= len(caption.words) <= 30
        assert caption.attention.sum((1, 2)) == pytest.approx(1, abs=1e-4)


def test_its_captions_of_the_examples_are_on_a_page() -> None:
    page = (REPOSITORY / "docs" / "captions.md").read_text("utf-8")
    photographs = [path.name for path in (REPOSITORY / "examples" / "photographs").glob("*.jpg")]
    assert len(photographs) == 20
    assert all(f"photographs/{name}" in page for name in photographs)
    assert "a black and white cow in a field" in page


def test_its_captions_are_the_same_to_the_last_digit_whatever_the_batches() -> None:
    captioner = captionlens.load()
    photographs = sorted((REPOSITORY / "examples" / "photographs").glob("*.jpg"))[:5]
    whole = list(captioner.caption_many(photographs))
    for batch_size in (1, 2):
        for caption, wanted in zip(captioner.caption_many(photographs, batch_size=batch_size), whole, strict=True):
            assert caption.to_dict() == wanted.to_dict()
            np.testing.assert_array_equal(caption.attention, wanted.attention)


def test_it_is_less_sure_of_what_it_does_not_know() -> None:
    folder = REPOSITORY / "examples" / "photographs"
    captioner = captionlens.load()
    # A cup from above, which it takes for cake, and a rocket, which it takes for a plane.
    photographer, cat, *unknown = (
        captioner.caption(folder / f"{name}.jpg").confidence for name in ("photographer", "cat", "coffee", "rocket")
    )
    assert all(confidence is not None and 0 < confidence < 0.25 for confidence in unknown)
    assert photographer is not None
    assert photographer > 0.5
    assert cat is not None
    assert cat > 0.5
    done = run_cli("caption", folder / "rocket.jpg", "--min-confidence", "0.25", "--format", "json")
    (caption,) = json.loads(done.stdout)
    assert caption["caption"] is None
    assert caption["withheld"]


def test_it_is_surer_of_photographs_of_its_kind(shared_data: Path) -> None:
    photographs = [record.image for record in read_dataset(shared_data / "flickr8k").split("val")[:40]]
    confidences = [caption.confidence for caption in captionlens.load().caption_many(photographs)]
    assert None not in confidences
    assert np.median(np.array(confidences, float)) > 0.3


def test_dev_scores_agree_with_the_official_scorers(shared_data: Path, tmp_path: Path) -> None:
    official_scorers.require_java()
    report, results, references = (tmp_path / name for name in ("report.json", "results.json", "references.json"))
    run_cli(
        *("evaluate", shared_data / "flickr8k", "--split", "dev", "--no-intervals", "--no-meteor", "--quiet"),
        *("-o", report, "--results", results, "--references", references),
    )
    ours = json.loads(report.read_text())["scores"]
    theirs = official_scorers.scores(read_results(results), read_references(references))
    assert theirs.keys() <= ours.keys()
    for name, value in theirs.items():
        assert ours[name] == pytest.approx(value, abs=1e-6), name
    assert ours["CIDEr-D"] > 0.6
    assert ours["BLEU-4"] > 0.24

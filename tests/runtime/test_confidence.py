"""A calibrated model: fitted to drawn scenes, kept, read back, refused where it is damaged, obeyed by every output."""

import csv
import io
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import captionlens
from captionlens.datasets import read_dataset
from captionlens.errors import DatasetError, ModelError, OptionError, UnreadableImage
from captionlens.outputs.formats import WITHHELD, open_writer
from captionlens.outputs.sidecar import write_sidecar
from captionlens.runtime.caption import Caption
from captionlens.runtime.captioner import Captioner, load
from captionlens.runtime.confidence import Calibration
from captionlens.runtime.model_directory import PACKAGED_MODEL, ModelDirectory, add_calibration, write_manifest
from captionlens.scoring.confidence_fit import fit_calibration
from helpers.cli import run_cli as run
from helpers.paths import REPOSITORY
from helpers.report import entries_of


@pytest.fixture(scope="module")
def calibrated(small_model: Path, small_scenes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the small model, calibrated by the command. Not to be changed."""
    folder = Path(shutil.copytree(small_model, tmp_path_factory.mktemp("models") / "calibrated"))
    result = run("model", "calibrate", folder, small_scenes, "--threads", "1", "--quiet")
    assert [line.split()[0] for line in result.stdout.splitlines()] == ["calibration", "words", "captions"]
    return folder


@pytest.fixture
def model(calibrated: Path, tmp_path: Path) -> Path:
    """A copy to spoil."""
    return Path(shutil.copytree(calibrated, tmp_path / "model"))


@pytest.fixture(scope="module")
def photographs(small_scenes: Path) -> list[Path]:
    return [record.image for record in read_dataset(small_scenes).split("test")]


def grids_of(captioner: Captioner, photographs: list[Path]) -> NDArray[np.float32]:
    """The grids (B, L, D) of photographs that can all be read."""
    grids = []
    for grid in captioner.encode_many(photographs):
        assert not isinstance(grid, UnreadableImage)
        grids.append(grid)
    return np.stack(grids)


def test_captions_are_the_same_but_for_their_confidence(
    calibrated: Path, small_model: Path, photographs: list[Path]
) -> None:
    sure, unsure = load(calibrated, threads=1), load(small_model, threads=1)
    assert unsure.calibration is None
    for with_, without in zip(sure.caption_many(photographs), unsure.caption_many(photographs), strict=True):
        assert with_.text == without.text
        assert with_.confidence is not None
        # The untrained network ends one of its captions before the first word.
        assert 0 < with_.confidence < 1 if with_.words else with_.confidence == 0
        assert all(word.confidence is not None and 0 < word.confidence < 1 for word in with_.words)
        assert without.confidence is None
        assert all(word.confidence is None for word in without.words)
        assert set(with_.to_dict()) - set(without.to_dict()) - {"unsure"} == {"confidence"}
        assert all("confidence" in word for word in with_.to_dict()["words"])
    one = sure.caption(photographs[0])
    assert one.confidence == pytest.approx(next(sure.caption_many(photographs)).confidence, abs=1e-4)
    features = grids_of(sure, photographs[:2])
    assert sure.caption_features(features)[0].confidence == pytest.approx(one.confidence, abs=1e-4)
    assert sure.force(photographs[0], [one.text])[0].confidence is None


def spoken(model: Path, dataset: Path) -> int:
    """Validation photographs of which the model says at least a word."""
    photographs = [record.image for record in read_dataset(dataset).split("val")]
    return sum(caption.text != "" for caption in load(model, threads=1).caption_many(photographs))


def test_what_it_was_fitted_on_is_kept(calibrated: Path, small_model: Path, small_scenes: Path) -> None:
    opened = ModelDirectory.open(calibrated)
    assert opened.calibration is not None
    record = opened.calibration.record
    assert (record["dataset"], record["split"], record["train_photographs"]) == (small_scenes.name, "val", 96)
    number = spoken(calibrated, small_scenes)
    assert record["photographs"] == number
    assert record["decoding"] == {"beam": 3, "length_penalty": 1.0, "max_words": 8}
    shown = run("model", "show", calibrated).stdout
    assert f"calibrated on {number} photographs of {small_scenes.name}, split val" in shown
    assert "not calibrated" in run("model", "show", small_model).stdout
    assert "is whole" in run("model", "check", calibrated).stdout
    card = (calibrated / "README.md").read_text()
    assert card.startswith((small_model / "README.md").read_text().rstrip())
    assert "## How sure it is" in card


@pytest.mark.slow
def test_calibrating_again_replaces_the_first(model: Path, small_scenes: Path) -> None:
    dataset = read_dataset(small_scenes)
    before = (model / "README.md").read_text()
    captioner = load(model, threads=1)
    done = fit_calibration(captioner, [dataset], split="test", progress=False)
    card = before.replace("split val", "split test")
    add_calibration(model, done.calibration, card)
    opened = ModelDirectory.open(model).calibration
    assert opened is not None
    assert opened.record["split"] == "test"
    run("model", "calibrate", model, small_scenes, "--threads", "1", "--quiet")
    assert (model / "README.md").read_text() == before
    assert [path.name for path in model.parent.iterdir()] == ["model"]  # nothing is left beside it


def test_it_reads_back_what_was_written(calibrated: Path, tmp_path: Path) -> None:
    opened = ModelDirectory.open(calibrated)
    calibration = opened.calibration
    assert calibration is not None
    vocabulary, channels = len(calibration.idf), calibration.familiarity.centres.shape[1]
    calibration.save(tmp_path / "confidence.json", weights="w")
    again = Calibration.load(tmp_path / "confidence.json", weights="w", vocabulary=vocabulary, channels=channels)
    np.testing.assert_array_equal(again.word, calibration.word)
    np.testing.assert_array_equal(again.caption, calibration.caption)
    np.testing.assert_array_equal(again.idf, calibration.idf)
    np.testing.assert_allclose(again.familiarity.centres, calibration.familiarity.centres, atol=1e-3)
    assert again.familiarity.median == calibration.familiarity.median
    assert again.record == calibration.record
    assert (calibrated / "confidence.json").stat().st_size < 1e6


def refusal(folder: Path) -> str:
    with pytest.raises(ModelError) as caught:
        load(folder)
    assert caught.value.path == str(folder / "confidence.json")
    return caught.value.cause


def edit(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    path = folder / "confidence.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    write_manifest(folder)


def test_a_damaged_or_missing_calibration(model: Path) -> None:
    content = (model / "confidence.json").read_text()
    (model / "confidence.json").write_text(content.replace("0.", "1.", 1))
    assert "is not the file the manifest names" in refusal(model)
    (model / "confidence.json").unlink()
    assert refusal(model) == "is missing"


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        (lambda c: c.update(format=2), "is of format 2, wanted 1"),
        (lambda c: c.update(weights="0" * 64), "was fitted to other weights"),
        (lambda c: c["idf"].pop(), "is for 17 words"),
        (lambda c: c["familiarity"].update(channels=7), "and 7 channels"),
        (lambda c: c["familiarity"].update(number=3), "lacks or garbles"),
        (lambda c: c["familiarity"].update(centres="%%%"), "lacks or garbles"),
        (lambda c: c.pop("word"), "lacks or garbles a setting ('word')"),
        (lambda c: c["caption"].update(squared_novelty="much"), "lacks or garbles"),
        (lambda c: c["record"].pop("ece"), "lacks or garbles a setting ('ece')"),
        (lambda c: c.update(record=[]), "lacks or garbles"),
        (lambda c: c["caption"].update(squared_novelty=0.5), "makes strange photographs more confident"),
        (lambda c: c["word"].update(intercept=float("nan")), "holds a number that makes no sense"),
        (lambda c: c["idf"].__setitem__(4, 0), "holds a number that makes no sense"),
    ],
)
def test_a_calibration_that_does_not_fit(change: Callable[[dict[str, Any]], object], cause: str, model: Path) -> None:
    edit(model, change)
    assert cause in refusal(model)


def test_a_file_that_is_no_json(model: Path) -> None:
    (model / "confidence.json").write_text("{")
    write_manifest(model)
    assert "lacks or garbles" in refusal(model)


def test_too_few_photographs_and_no_such_split(calibrated: Path, small_scenes: Path) -> None:
    dataset = read_dataset(small_scenes)
    captioner = load(calibrated, threads=1)
    few = replace(dataset, records=(*dataset.split("train")[:3], *dataset.split("val")[:4]))
    with pytest.raises(DatasetError, match=r"too few photographs to calibrate with: 3 and [34]"):
        fit_calibration(captioner, [few], progress=False)
    with pytest.raises(OptionError, match="no split 'train'"):
        fit_calibration(captioner, [replace(dataset, records=dataset.split("val"))], progress=False)


@pytest.mark.slow
def test_photographs_that_cannot_be_read_are_left_out(small_model: Path, small_scenes: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(small_scenes, tmp_path / "scenes"))
    captioner = load(small_model, threads=1)
    validation = read_dataset(folder).split("val")
    broken = next(record.image for record in validation if captioner.caption(record.image).words)
    number = spoken(small_model, folder)
    broken.write_bytes(b"no photograph")
    model = Path(shutil.copytree(small_model, tmp_path / "model"))
    result = run("model", "calibrate", model, folder, "--threads", "1", "--quiet", code=1)
    assert f"captionlens: {broken}: " in result.stderr
    assert f"calibrated on {number - 1} photographs only" in result.stderr
    opened = ModelDirectory.open(model).calibration
    assert opened is not None
    assert opened.record["photographs"] == number - 1


# What is shown of captions below --min-confidence.


@pytest.fixture(scope="module")
def captions(calibrated: Path, photographs: list[Path]) -> list[Caption]:
    """As the command makes them, least confident first."""
    found = load(calibrated, threads=1).caption_many(map(str, photographs))
    return sorted(found, key=lambda caption: caption.confidence or 0)


def between(captions: list[Caption]) -> float:
    """A confidence that one or more captions are below, and one or more are not."""
    values = [caption.confidence or 0 for caption in captions]
    gap = int(np.argmax(np.diff(values)))
    assert values[gap + 1] - values[gap] > 1e-4
    return (values[gap] + values[gap + 1]) / 2


@pytest.mark.parametrize("form", ["text", "json", "jsonl", "csv", "coco"])
def test_no_format_shows_what_is_below(form: str, calibrated: Path, captions: list[Caption]) -> None:
    least = between(captions)
    paths = [str(caption.path) for caption in captions]
    low = {str(c.path) for c in captions if (c.confidence or 0) < least}
    result = run(
        "caption", "--model", calibrated, "--threads", "1", "--min-confidence", str(least), "--format", form, *paths
    )
    assert f"{len(low)} of {len(captions)} captions are too unsure and not shown" in result.stderr
    texts = {str(caption.path): caption.text for caption in captions}
    if form == "text":
        shown = dict(line.split("\t") for line in result.stdout.splitlines())
        hedged = {str(caption.path): caption.hedged for caption in captions}
        assert shown == {path: WITHHELD if path in low else text for path, text in hedged.items()}
    elif form == "csv":
        rows = {row["path"]: row for row in csv.DictReader(io.StringIO(result.stdout))}
        assert {path: row["caption"] for path, row in rows.items()} == {
            path: "" if path in low else text for path, text in texts.items()
        }
        assert all((float(row["confidence"]) < least) == (path in low) for path, row in rows.items())
        assert {row["error"] for row in rows.values()} == {""}
    elif form == "coco":
        assert len(json.loads(result.stdout)) == len(captions) - len(low)
    else:
        entries = json.loads(result.stdout) if form == "json" else list(map(json.loads, result.stdout.splitlines()))
        for entry in entries:
            text = texts[entry["path"]]
            if entry["path"] in low:
                assert (entry["caption"], entry["withheld"]) == (None, text)
            else:
                assert entry["caption"] == text
                assert "withheld" not in entry


def test_nothing_lies_beside_a_photograph_it_is_not_sure_of(
    calibrated: Path, captions: list[Caption], tmp_path: Path
) -> None:
    least = between(captions)
    folder = tmp_path / "photographs"
    folder.mkdir()
    for caption in captions:
        shutil.copy(str(caption.path), folder)
    report = tmp_path / "report.html"
    run(
        *("caption", "--model", calibrated, "--threads", "1", "--min-confidence", str(least), folder, "--quiet"),
        *("--sidecar", "txt", "--explain", tmp_path / "figures", "--report", report),
    )
    high = {Path(str(c.path)).stem for c in captions if (c.confidence or 0) >= least}
    assert {path.stem for path in folder.glob("*.txt")} == high
    assert {path.stem for path in (tmp_path / "figures").iterdir()} == high
    shown = {Path(entry["path"]).stem for entry in entries_of(report.read_text()) if not entry.get("withheld")}
    assert shown == high


def test_a_tenth_of_what_it_was_fitted_to_is_unsure(calibrated: Path, small_scenes: Path) -> None:
    captioner = load(calibrated, threads=1)
    records = read_dataset(small_scenes).split("train")
    found = list(captioner.caption_many([record.image for record in records]))
    assert captioner.calibration is not None
    limit = captioner.calibration.unsure_below
    assert 0 < limit < 1
    for caption in found:
        assert caption.confidence is not None
        assert caption.unsure == (caption.confidence < limit)
        assert caption.hedged == ("not sure: " if caption.unsure else "") + caption.text
        assert caption.to_dict().get("unsure", False) is caption.unsure
    assert 0 < sum(caption.unsure for caption in found) < len(found) / 2


@pytest.mark.parametrize("unsure", ["mark", "withhold", "show"])
def test_what_becomes_of_unsure_captions(unsure: str, calibrated: Path, small_scenes: Path, tmp_path: Path) -> None:
    paths = [str(record.image) for record in read_dataset(small_scenes).split("train")]
    report = tmp_path / "report.html"
    result = run(
        *("caption", "--model", calibrated, "--threads", "1", "--unsure", unsure, "--report", report, "--quiet"),
        *paths,
    )
    shown = [line.split("\t")[1] for line in result.stdout.splitlines()]
    known = list(load(calibrated, threads=1).caption_many(paths))
    expected = {
        "mark": [caption.hedged for caption in known],
        "withhold": [WITHHELD if caption.unsure else caption.text for caption in known],
        "show": [caption.text for caption in known],
    }
    assert shown == expected[unsure]
    entries = entries_of(report.read_text())
    doubted = [(caption.hedged if caption.unsure and unsure == "mark" else None) for caption in known]
    assert [entry.get("hedged") for entry in entries] == doubted
    for entry, caption in zip(entries, known, strict=True):
        assert entry.get("withheld", False) == (caption.unsure and unsure == "withhold")
        assert ("doubt" in entry) == (caption.unsure and unsure != "show")


def test_older_calibrations_are_never_unsure(calibrated: Path, photographs: list[Path]) -> None:
    path = calibrated / "confidence.json"
    content = json.loads(path.read_text())
    del content["unsure_below"]
    weights, vocabulary = content["weights"], len(content["idf"])
    older = path.with_name("older.json")
    older.write_text(json.dumps(content))
    try:
        channels = content["familiarity"]["channels"]
        calibration = Calibration.load(older, weights=weights, vocabulary=vocabulary, channels=channels)
    finally:
        older.unlink()
    assert calibration.unsure_below == 0


def test_a_withheld_caption_is_safe_in_python_too(tmp_path: Path) -> None:
    caption = Caption("a dog", path="x.jpg", confidence=0.1, withheld=True)
    assert write_sidecar(tmp_path / "x.jpg", caption, "txt") is None
    assert list(tmp_path.iterdir()) == []
    stream = io.StringIO()
    with open_writer("text", stream, many=False) as writer:
        writer.write(caption)
    assert stream.getvalue() == WITHHELD + "\n"


def test_everything_is_shown_at_0_and_nothing_at_1(calibrated: Path, photographs: list[Path]) -> None:
    arguments = ("caption", "--model", calibrated, "--threads", "1", *photographs)
    shown = run(*arguments, "--min-confidence", "0")
    assert shown.stdout == run(*arguments).stdout
    assert shown.stderr == ""
    assert run(*arguments, "--min-confidence", "1").stdout.count(WITHHELD) == len(photographs)


def test_wrong_usage(calibrated: Path, small_model: Path, photographs: list[Path]) -> None:
    photograph = photographs[0]
    for value in ("-0.1", "1.1", "high"):
        assert "--min-confidence" in run("caption", photograph, "--min-confidence", value, code=2).stderr
    result = run("caption", photograph, "--model", small_model, "--min-confidence", "0.5", code=2)
    assert "needs a calibrated model; captionlens-small is not" in result.stderr


def test_evaluate_tells_how_good_the_confidence_is(
    calibrated: Path, small_model: Path, small_scenes: Path, tmp_path: Path
) -> None:
    report = tmp_path / "report.json"
    common = ("evaluate", small_scenes, "--threads", "1", "--no-intervals", "--no-meteor", "--quiet", "-o", report)
    result = run(*common, "--model", calibrated)
    found = json.loads(report.read_text())["confidence"]
    assert found["captions"]["number"] == spoken(calibrated, small_scenes)
    assert found["words"]["after"] < found["words"]["before"]  # these are the photographs it was fitted to
    assert f"{100 * found['words']['before']:.1f} -> {100 * found['words']['after']:.1f}" in result.stdout
    run(*common, "--model", small_model)
    assert "confidence" not in json.loads(report.read_text())


# The captioner that comes along.


@pytest.mark.slow
def test_a_rocket_is_not_taken_for_what_it_knows(shared_data: Path) -> None:
    """Calibrated on a few dozen photographs: photographs of another kind stand out, people on stairs less so."""
    dataset = read_dataset(shared_data / "flickr8k")
    few = replace(dataset, records=(*dataset.split("train")[:160], *dataset.split("val")[:60]))
    captioner = captionlens.load(PACKAGED_MODEL, threads=1)
    calibration = fit_calibration(captioner, [few], progress=False).calibration
    assert calibration.record["ece"]["words"]["after"] < calibration.record["ece"]["words"]["before"]
    photographs = REPOSITORY / "examples" / "photographs"
    names = ("rocket", "coffee", "cat", "astronaut", "stairs")
    grids = grids_of(captioner, [photographs / f"{name}.jpg" for name in names])
    novelty = dict(zip(names, calibration.novelty(grids), strict=True))
    assert min(novelty[name] for name in ("rocket", "coffee", "cat")) > 1.2
    assert min(novelty[name] for name in ("rocket", "coffee", "cat")) > max(novelty["astronaut"], novelty["stairs"])

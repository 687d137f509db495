"""`captionlens evaluate` and `captionlens score`: a report of a split, and the same scores from files."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from captionlens.datasets import read_dataset
from captionlens.datasets.phrases import all_phrases, read_scene_phrases
from captionlens.datasets.scenes import draw_scenes
from captionlens.datasets.several import read_datasets
from captionlens.runtime.captioner import load
from captionlens.runtime.decoding import DecodingOptions
from captionlens.scoring.evaluation import read_reports
from captionlens.scoring.faithfulness_scores import nouns_of
from captionlens.scoring.scores import score_captions
from helpers.cli import run_cli as run

SCORES = {"BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4", "ROUGE-L", "CIDEr-D"}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten pictures: eight to train, one to validate, one to test."""
    return draw_scenes(tmp_path_factory.mktemp("data") / "scenes", images=10, seed=0, size=64)


@pytest.fixture(scope="module")
def evaluated(dataset: Path, small_model: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The report of the train split, the files for other scorers, and what the command said."""
    folder = tmp_path_factory.mktemp("evaluated") / "new"
    result = run(
        "evaluate", dataset, "--model", small_model, "--split", "train", "--threads", "1", "--no-meteor",
        "-o", folder / "report.json", "--results", folder / "results.json",
        "--references", folder / "references.json", "--batch-size", "3",
    )  # fmt: skip
    return {
        "report": json.loads((folder / "report.json").read_text()),
        "folder": folder,
        "stdout": result.stdout,
        "stderr": result.stderr,
    }


def test_the_report_has_what_the_documentation_promises(evaluated: dict[str, Any]) -> None:
    report = evaluated["report"]
    assert (report["dataset"], report["split"], report["model"]) == ("scenes", "train", "captionlens-small")
    assert report["decoding"]["beam"] == 3
    assert report["decoding"]["max_words"] == 8
    assert report["photographs"] == 8
    assert set(report["scores"]) == SCORES
    assert all(0 <= score <= 10 for score in report["scores"].values())
    assert set(report["intervals"]) == SCORES
    for name, (low, high) in report["intervals"].items():
        assert low <= report["scores"][name] <= high
    assert all(set(entry) == {"image_id", "caption"} for entry in report["captions"])
    assert report["failed"] == []


def test_the_captions_are_those_of_the_captioner(evaluated: dict[str, Any], dataset: Path, small_model: Path) -> None:
    captioner = load(small_model, threads=1)
    records = read_dataset(dataset).split("train")
    captions = [captioner.caption(record.image).text for record in records]
    assert [entry["caption"] for entry in evaluated["report"]["captions"]] == captions
    assert [entry["image_id"] for entry in evaluated["report"]["captions"]] == list(range(1, 9))
    scores = score_captions(
        dict(enumerate(captions)),
        {number: record.captions for number, record in enumerate(records)},
        intervals=False,
        meteor=False,
    )
    assert evaluated["report"]["scores"] == pytest.approx(scores.scores)
    assert scores.scores["BLEU-1"] > 0


def test_the_table(evaluated: dict[str, Any]) -> None:
    table = evaluated["stdout"]
    assert table.startswith("8 photographs, scores times 100\n")
    bleu = evaluated["report"]["scores"]["BLEU-1"]
    assert f"BLEU-1   {100 * bleu:8.2f}   [" in table
    assert "train 8, val 1, test 1" in evaluated["stderr"]


def test_the_files_score_the_same(evaluated: dict[str, Any], tmp_path: Path) -> None:
    folder, report = evaluated["folder"], evaluated["report"]
    assert json.loads((folder / "results.json").read_text()) == report["captions"]
    result = run(
        "score", folder / "results.json", folder / "references.json",
        "-o", tmp_path / "again.json", "--no-meteor",
    )  # fmt: skip
    again = json.loads((tmp_path / "again.json").read_text())
    assert again["scores"] == report["scores"]
    assert again["intervals"] == report["intervals"]
    assert result.stdout == evaluated["stdout"]


def test_other_ways_to_search(dataset: Path, small_model: Path, tmp_path: Path) -> None:
    output = tmp_path / "report.json"
    result = run(
        "evaluate", dataset, "--model", small_model, "--split", "dev", "--threads", "1", "--no-meteor",
        "--no-intervals", "--beam", "1", "--max-words", "3", "--length-penalty", "0.5", "-o", output, "--quiet",
    )  # fmt: skip
    report = json.loads(output.read_text())
    assert result.stderr == ""
    assert "[" not in result.stdout
    assert report["intervals"] == {}
    assert report["split"] == "val"  # the one name of what others call dev
    wanted = DecodingOptions(beam=1, max_words=3, length_penalty=0.5)
    assert DecodingOptions(**report["decoding"]) == wanted
    (entry,) = report["captions"]
    (record,) = read_dataset(dataset).split("val")
    assert entry["caption"] == load(small_model, threads=1).caption(record.image, wanted).text


@pytest.mark.slow
def test_faithfulness_of_nouns_and_of_function_words(dataset: Path, small_model: Path, tmp_path: Path) -> None:
    """Against the same words examined one by one."""
    output = tmp_path / "report.json"
    known = (
        "evaluate",
        dataset,
        "--model",
        small_model,
        "--split",
        "train",
        "--threads",
        "1",
        "--no-meteor",
        "--quiet",
    )
    result = run(*known, "-o", output, "--grounding", dataset, "--faithfulness", "--faithfulness-photographs", "7")
    found = json.loads(output.read_text())["faithfulness"]
    captioner = load(small_model, threads=1)
    boxed = read_scene_phrases(dataset)
    nouns, others = [], []
    for record in read_dataset(dataset).split("train")[:7]:
        shapes = {c.words[p.end - 1] for c in boxed[record.source_id] for p in c.phrases}
        for word in captioner.examine(captioner.caption(record.image)).words:
            if word.text in shapes:
                nouns.append(word.faithfulness)
            if word.text in ("a", "is", "the"):
                others.append(word.faithfulness)
    assert nouns  # else there would be little to compare
    assert others
    assert (found["photographs"], found["words_are"], found["share"], found["left_out"]) == (7, "nouns", 0.9, [])
    for part, words in ((found, nouns), (found["function_words"], others)):
        assert part["words"] == len(words)
        for name in ("falls_more", "fall", "control_fall", "depends_on_picture"):
            mean = sum(getattr(word, name) for word in words) / len(words)
            assert part[name] == pytest.approx(mean, abs=1e-5)
            low, high = part["intervals"][name]
            assert low <= part[name] <= high
    table = result.stdout.splitlines()
    assert table[-3].split()[:2] == ["faithfulness", "words"]
    assert table[-2].split()[:3] == ["nouns", str(len(nouns)), f"{100 * found['falls_more']:.1f}"]
    assert table[-1].startswith("function words")
    run(*known, "-o", output, "--faithfulness", "--no-intervals")
    everything = json.loads(output.read_text())["faithfulness"]
    assert (everything["words_are"], everything["photographs"]) == ("content words", 8)
    assert "intervals" not in everything
    assert "--faithfulness-photographs goes with" in run(*known, "--faithfulness-photographs", "3", code=2).stderr


def test_a_photograph_that_cannot_be_read(dataset: Path, small_model: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(dataset, tmp_path / "scenes"))
    broken = folder / "images" / "00002.png"
    broken.write_bytes(broken.read_bytes()[:200])
    output = tmp_path / "report.json"
    result = run(
        "evaluate", folder, "--model", small_model, "--split", "train", "--threads", "1", "--no-meteor",
        "--no-intervals", "-o", output, "--quiet", code=1,
    )  # fmt: skip
    assert result.stderr.startswith(f"captionlens: {broken}: ")
    report = json.loads(output.read_text())
    assert report["photographs"] == len(report["captions"]) == 7
    assert [entry["path"] for entry in report["failed"]] == [str(broken)]
    assert 2 not in [entry["image_id"] for entry in report["captions"]]


@pytest.fixture(scope="module")
def grounded(dataset: Path, small_model: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The report of the train split with the scenes' own boxes, and the table."""
    output = tmp_path_factory.mktemp("grounded") / "report.json"
    result = run(
        "evaluate", dataset, "--model", small_model, "--split", "train", "--threads", "1", "--no-meteor",
        "--grounding", dataset, "-o", output, "--quiet",
    )  # fmt: skip
    assert result.stderr == ""
    return {"report": json.loads(output.read_text()), "stdout": result.stdout}


@pytest.mark.slow
def test_attention_against_the_boxes_of_scenes(grounded: dict[str, Any], dataset: Path, small_model: Path) -> None:
    found = grounded["report"]["grounding"]
    captioner = load(small_model, threads=1)
    sizes: dict[str, list[float]] = {"correctness": [], "uniform": [], "pointing": [], "centre": []}
    trained = {record.source_id: record.image for record in read_dataset(dataset).split("train")}
    for line in (dataset / "phrases.jsonl").read_text().splitlines():
        row = json.loads(line)
        if row["id"] not in trained:
            continue
        (forced,) = captioner.force(trained[row["id"]], [row["caption"]])
        for phrase in row["phrases"]:
            map_ = forced.attention[phrase["start"] : phrase["end"]].mean(0)
            left, top, right, bottom = phrase["box"]
            # Each of the 7 cells a side as 640 small squares a side: the picture's 64 pixels each are 70.
            fine = np.kron(map_, np.ones((640, 640))) / 640**2
            inside = fine[round(70 * top) : round(70 * bottom), round(70 * left) : round(70 * right)]
            sizes["correctness"].append(inside.sum() / map_.sum())
            sizes["uniform"].append((right - left) * (bottom - top) / 64**2)
            y, x = (np.array(np.unravel_index(map_.argmax(), (7, 7))) + 0.5) * 64 / 7
            sizes["pointing"].append(left <= x <= right and top <= y <= bottom)
            sizes["centre"].append(left <= 32 <= right and top <= 32 <= bottom)
    assert found["phrases"] == len(sizes["uniform"]) > 40
    assert found["attention_correctness"] == pytest.approx(np.mean(sizes["correctness"]), abs=1e-3)
    assert found["pointing_game"] == pytest.approx(np.mean(sizes["pointing"]))
    assert found["uniform"] == pytest.approx(np.mean(sizes["uniform"]), abs=1e-5)
    assert found["centre"] == pytest.approx(np.mean(sizes["centre"]))
    assert abs(found["attention_correctness"] - found["uniform"]) > 1e-3  # the network looks somewhere
    assert set(found["intervals"]) == {"attention_correctness", "pointing_game"}
    for name, (low, high) in found["intervals"].items():
        assert low <= found[name] <= high
    assert found["left_out"] == []
    own = found["own_captions"]
    shapes = ("circle", "square", "star", "cross", "triangle")
    said = [entry["caption"].split() for entry in grounded["report"]["captions"]]
    assert 0 < own["phrases"] <= sum(word in shapes for words in said for word in words)


def test_the_table_of_attention(grounded: dict[str, Any]) -> None:
    found = grounded["report"]["grounding"]
    _, of_references, of_own = grounded["stdout"].split("\n\n")
    title, correctness, pointing = of_references.splitlines()
    assert title == f"attention in reference captions, {found['phrases']} phrases with boxes"
    low, high = (100 * bound for bound in found["intervals"]["attention_correctness"])
    value, uniform = 100 * found["attention_correctness"], 100 * found["uniform"]
    assert correctness == f"correctness {value:6.2f}   [{low:.2f}, {high:.2f}]   uniform {uniform:.2f}"
    assert pointing.startswith(f"pointing    {100 * found['pointing_game']:6.2f}   [")
    assert of_own.startswith(f"attention in own captions, {found['own_captions']['phrases']} phrases with boxes\n")


def test_photographs_without_phrases_are_named_and_left_out(dataset: Path, small_model: Path, tmp_path: Path) -> None:
    entities = tmp_path / "entities"
    for name, text in (
        (
            "Annotations/00001.xml",
            "<annotation><size><width>64</width><height>64</height></size><object><name>1</name>"
            "<bndbox><xmin>1</xmin><ymin>1</ymin><xmax>32</xmax><ymax>64</ymax></bndbox></object></annotation>",
        ),
        ("Sentences/00001.txt", "There is [/EN#1/other a circle] .\n"),
    ):
        (entities / name).parent.mkdir(parents=True)
        (entities / name).write_text(text)
    output = tmp_path / "report.json"
    known = ("evaluate", dataset, "--model", small_model, "--threads", "1", "--no-meteor", "--no-intervals", "--quiet")
    result = run(*known, "--split", "train", "--grounding", entities, "-o", output, code=1)
    report = json.loads(output.read_text())
    assert report["photographs"] == 8
    found = report["grounding"]
    assert (found["phrases"], found["uniform"], found["centre"]) == (1, pytest.approx(0.5), 1)
    assert "intervals" not in found
    assert len(found["left_out"]) == 7
    assert Path(found["left_out"][0]["path"]).name == "00002.png"
    first = result.stderr.splitlines()[0]
    assert first == f"captionlens: grounding: {entities}: has no phrases of 00002"
    # Where not one photograph has phrases, there is nothing to say.
    (entities / "Sentences" / "00001.txt").write_text("nothing .\n")
    result = run(*known, "--split", "train", "--grounding", entities, "-o", output, code=1)
    found = json.loads(output.read_text())["grounding"]
    assert (found["phrases"], found["own_captions"]) == (0, {"phrases": 0})
    assert "attention in reference captions, 0 phrases with boxes\n" in result.stdout
    # A folder that is neither is refused before anything is captioned, and so is one that is not there.
    grounding = ("evaluate", dataset, "--model", small_model, "--split", "train", "--grounding")
    assert "has neither Annotations/ and Sentences/" in run(*grounding, tmp_path, code=1).stderr
    assert "does not exist" in run(*grounding, tmp_path / "none", code=2).stderr


def test_wrong_usage(dataset: Path, small_model: Path, tmp_path: Path) -> None:
    known = ("evaluate", dataset, "--model", small_model, "--threads", "1")
    assert "unknown split 'nonsense'" in run(*known, "--split", "nonsense", code=2).stderr
    assert "length_penalty" in run(*known, "--length-penalty", "nan", code=2).stderr
    assert "none" in run("evaluate", tmp_path / "none", "--model", small_model, code=1).stderr
    assert "no such model directory" in run("evaluate", dataset, "--model", tmp_path / "none", code=1).stderr
    assert run("evaluate", code=2).stdout == ""


def test_scoring_files_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "results.json").write_text("[]")
    (tmp_path / "references.json").write_text("{}")
    result = run("score", tmp_path / "results.json", tmp_path / "references.json", code=1)
    assert result.stderr == f"captionlens: {tmp_path / 'results.json'}: has no captions\n"
    run("score", tmp_path / "none.json", tmp_path / "references.json", code=2)


def test_several_data_sets(dataset: Path, small_model: Path, tmp_path: Path) -> None:
    """Each scored as by itself, with the means, and a file of captions for each."""
    other = draw_scenes(tmp_path / "other", images=20, seed=3, size=64)
    output = tmp_path / "report.json"
    options = ("--model", small_model, "--split", "train", "--threads", "1", "--no-meteor", "--no-intervals", "--quiet")
    result = run("evaluate", dataset, other, *options, "-o", output, "--results", tmp_path / "r.json")
    report = json.loads(output.read_text())
    assert list(report["datasets"]) == ["scenes", "other"]
    alone = run("evaluate", other, *options, "-o", tmp_path / "alone.json").stdout
    assert report["datasets"]["other"] == json.loads((tmp_path / "alone.json").read_text())
    assert alone in result.stdout
    ciders = [part["scores"]["CIDEr-D"] for part in report["datasets"].values()]
    assert report["mean"]["CIDEr-D"] == pytest.approx(sum(ciders) / 2)
    assert "mean of 2 data sets" in result.stdout
    assert json.loads((tmp_path / "r-other.json").read_text()) == report["datasets"]["other"]["captions"]
    assert {path.name for path in tmp_path.glob("r*.json")} == {"r-scenes.json", "r-other.json", "report.json"}
    assert [part["dataset"] for part in read_reports(output)] == ["scenes", "other"]


def test_a_data_set_without_the_split_is_named(dataset: Path, small_model: Path, tmp_path: Path) -> None:
    rows = (dataset / "captions.jsonl").read_text().splitlines()
    (tmp_path / "part").mkdir()
    (tmp_path / "part" / "images").symlink_to(dataset / "images")
    kept = [row for row in rows if json.loads(row)["split"] != "test"]
    (tmp_path / "part" / "captions.jsonl").write_text("\n".join(kept) + "\n")
    options = ("--model", small_model, "--split", "test", "--threads", "1", "--no-meteor", "--no-intervals", "--quiet")
    result = run("evaluate", dataset, tmp_path / "part", *options)
    assert f"{tmp_path / 'part'} has no split 'test': left out" in result.stderr
    assert "mean of 1 data set" in result.stdout


def test_right_nouns_where_a_data_set_has_no_boxes(dataset: Path, small_model: Path, tmp_path: Path) -> None:
    """Of two data sets, the one without boxes has faithfulness of nouns that its references have, and no grounding."""
    other = draw_scenes(tmp_path / "other", images=10, seed=3, size=64)
    (other / "captions.jsonl").write_text(
        "".join(
            json.dumps(json.loads(line) | {"id": f"x{json.loads(line)['id']}"}) + "\n"
            for line in (other / "captions.jsonl").read_text().splitlines()
        )
    )
    output = tmp_path / "report.json"
    run(
        *("evaluate", dataset, other, "--model", small_model, "--split", "train", "--threads", "1", "--no-meteor"),
        *("--no-intervals", "--quiet", "--grounding", dataset, "--faithfulness", "--faithfulness-photographs", "3"),
        *("-o", output),
    )
    first, second = json.loads(output.read_text())["datasets"].values()
    assert "grounding" in first
    assert first["faithfulness"]["words_are"] == "nouns"
    assert "grounding" not in second
    assert second["faithfulness"]["words_are"] == "right nouns"
    nouns = nouns_of(all_phrases(dataset))
    captioner = load(small_model, threads=1)
    right = 0
    for record in read_datasets([dataset, other])[1].split("train")[:3]:
        said = {word for reference in record.captions for word in reference.split()} & nouns
        right += sum(word.text in said for word in captioner.caption(record.image).words)
    assert second["faithfulness"]["words"] == right

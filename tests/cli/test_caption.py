"""`captionlens caption` as a user types it: formats, sources, failures, sidecars, figures, reports."""

import csv
import io
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import Result
from PIL import Image

from captionlens.cli.sources import gather
from captionlens.datasets.scenes import draw_scenes
from captionlens.files import stamp
from captionlens.geometry.region import Region
from captionlens.outputs import EMBEDDED_AT_MOST
from captionlens.runtime.caption import Caption
from captionlens.runtime.captioner import load
from captionlens.runtime.photograph import Photograph
from helpers.cli import COMMAND, run_cli
from helpers.download import small_photograph
from helpers.report import entries_of

Run = Callable[..., Result]


@pytest.fixture
def run(small_model: Path) -> Run:
    """`captionlens caption ARGUMENTS` with the small model, in this process."""

    def run(*arguments: str | Path, code: int = 0, **settings: object) -> Result:
        result = run_cli("caption", "--model", small_model, "--threads", "1", *arguments, code=code, **settings)
        assert "Traceback" not in result.stderr
        return result

    return run


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_scenes(tmp_path_factory.mktemp("scenes"), images=4, seed=0, size=64) / "images"


@pytest.fixture
def photographs(drawn: Path, tmp_path: Path) -> Path:
    """A folder of four pictures and a text file."""
    folder = Path(shutil.copytree(drawn, tmp_path / "photographs"))
    (folder / "notes.txt").write_text("no photograph")
    return folder


@pytest.fixture(scope="module")
def captions(small_model: Path, drawn: Path) -> dict[str, Caption]:
    """By the photograph's name, what Python says."""
    captioner = load(small_model, threads=1)
    return {path.name: captioner.caption(path) for path in sorted(drawn.iterdir())}


# Formats.


def test_one_photograph_gives_its_caption_alone(run: Run, photographs: Path, captions: dict[str, Caption]) -> None:
    assert run(photographs / "00001.png").stdout == captions["00001.png"].text + "\n"


def test_several_photographs_are_named(run: Run, photographs: Path, captions: dict[str, Caption]) -> None:
    result = run(photographs)
    assert result.stdout == "".join(f"{photographs / name}\t{caption.text}\n" for name, caption in captions.items())
    assert result.stderr == ""
    two = run(photographs / "00002.png", photographs / "00001.png")
    assert [line.split("\t")[0] for line in two.stdout.splitlines()] == [
        str(photographs / "00002.png"),
        str(photographs / "00001.png"),
    ]


def test_json(run: Run, photographs: Path, captions: dict[str, Caption]) -> None:
    entries = json.loads(run(photographs, "--format", "json").stdout)
    assert [entry["path"] for entry in entries] == [str(photographs / name) for name in captions]
    for entry, caption in zip(entries, captions.values(), strict=True):
        wanted = caption.to_dict() | {"path": entry["path"]}
        assert set(entry) == {"path", "caption", "file", "log_prob", "words", "model"}
        assert entry["file"] == stamp(entry["path"])
        assert (entry["caption"], entry["model"]) == (wanted["caption"], "captionlens-small")
        assert entry["log_prob"] == pytest.approx(wanted["log_prob"], abs=1e-4)
        assert all(set(word) == {"text", "probability"} for word in entry["words"])


def test_json_lines_with_attention(run: Run, photographs: Path, captions: dict[str, Caption]) -> None:
    lines = run(photographs, "--format", "jsonl", "--attention", "--batch-size", "3").stdout.splitlines()
    assert len(lines) == 4
    for line, caption in zip(lines, captions.values(), strict=True):
        words = json.loads(line)["words"]
        maps = np.array([word["attention"] for word in words]).reshape(len(words), 7, 7)
        np.testing.assert_allclose(maps, caption.attention, atol=1e-5)


def test_csv(run: Run, photographs: Path, captions: dict[str, Caption]) -> None:
    rows = list(csv.DictReader(io.StringIO(run(photographs, "--format", "csv").stdout)))
    assert [row["caption"] for row in rows] == [caption.text for caption in captions.values()]
    assert [row["path"] for row in rows] == [str(photographs / name) for name in captions]


def test_coco(run: Run, photographs: Path, captions: dict[str, Caption]) -> None:
    entries = json.loads(run(photographs, "--format", "coco").stdout)
    assert entries == [
        {"image_id": int(name.removesuffix(".png")), "caption": caption.text} for name, caption in captions.items()
    ]


@pytest.mark.parametrize("form", ["text", "json", "jsonl", "csv", "coco"])
def test_a_file_gets_what_stdout_would(form: str, run: Run, photographs: Path, tmp_path: Path) -> None:
    output = tmp_path / "new" / "folder" / "captions"
    result = run(photographs, "--format", form, "-o", output)
    assert result.stdout == ""
    assert output.read_text("utf-8") == run(photographs, "--format", form).stdout
    assert [path.name for path in output.parent.iterdir()] == ["captions"]


# Where photographs come from.


def test_stdin(run: Run, photographs: Path, captions: dict[str, Caption]) -> None:
    content = (photographs / "00001.png").read_bytes()
    assert run("-", input=content).stdout == captions["00001.png"].text + "\n"
    (entry,) = json.loads(run("-", "--format", "json", input=content).stdout)
    assert entry["path"] == "-"
    mixed = run("-", photographs / "00002.png", input=content).stdout.splitlines()
    assert [line.split("\t")[0] for line in mixed] == ["-", str(photographs / "00002.png")]


def test_stdin_without_a_photograph(run: Run) -> None:
    for content, cause in ((b"", "is empty"), (b"text", "not a photograph of an allowed format")):
        result = run("-", "--format", "jsonl", input=content, code=1)
        assert f"captionlens: -: {cause}\n" in result.stderr
        assert json.loads(result.stdout) == {
            "path": "-",
            "error": {"type": "unreadable-image", "message": f"-: {cause}"},
        }


def test_subfolders(run: Run, photographs: Path) -> None:
    (photographs / "more" / "deep").mkdir(parents=True)
    (photographs / "00004.png").rename(photographs / "more" / "deep" / "UPPER.PNG")
    assert len(run(photographs).stdout.splitlines()) == 3
    found = [line.split("\t")[0] for line in run("-r", photographs).stdout.splitlines()]
    assert found == sorted(found)
    assert str(photographs / "more" / "deep" / "UPPER.PNG") in found
    assert len(found) == 4


def test_a_list_of_files(run: Run, photographs: Path, tmp_path: Path) -> None:
    listed = [photographs / "00003.png", photographs / "00001.png"]
    filelist = tmp_path / "list.txt"
    filelist.write_text("\n".join(map(str, [listed[0], "", listed[1]])) + "\n")
    lines = run("--filelist", filelist).stdout.splitlines()
    assert [line.split("\t")[0] for line in lines] == [str(path) for path in listed]
    both = run(photographs / "00002.png", "--filelist", filelist).stdout.splitlines()
    assert len(both) == 3
    single = tmp_path / "single.txt"
    single.write_text(f"{listed[0]}\n")
    assert "\t" in run("--filelist", single).stdout  # a list names its photographs, however many


def test_a_list_that_cannot_be_read(run: Run, tmp_path: Path) -> None:
    assert "none.txt: No such file" in run("--filelist", tmp_path / "none.txt", code=1).stderr
    (tmp_path / "bytes.txt").write_bytes(b"\xff\xfe\n")
    assert "bytes.txt: " in run("--filelist", tmp_path / "bytes.txt", code=1).stderr


# What fails.


def test_no_photograph_named(run: Run) -> None:
    result = run(code=2)
    assert "name a photograph, a folder, a --filelist, or -" in result.stderr
    assert result.stdout == ""


def test_a_folder_without_photographs(run: Run, photographs: Path, tmp_path: Path) -> None:
    (tmp_path / "empty" / "below").mkdir(parents=True)
    result = run(tmp_path / "empty", code=1)
    assert result.stderr == (f"captionlens: {tmp_path / 'empty'}: holds no photographs (-r looks into sub-folders)\n")
    assert "sub-folders" not in run("-r", tmp_path / "empty", code=1).stderr
    others = run(tmp_path / "empty", photographs, code=1)
    assert len(others.stdout.splitlines()) == 4
    assert json.loads(run(tmp_path / "empty", "--format", "json", code=1).stdout) == []


def test_a_bad_photograph_among_good_ones(run: Run, photographs: Path, captions: dict[str, Caption]) -> None:
    whole = (photographs / "00002.png").read_bytes()
    (photographs / "00002.png").write_bytes(whole[: len(whole) // 2])
    result = run(photographs, "--quiet", code=1)
    named, summary = result.stderr.splitlines()
    assert named.startswith(f"captionlens: {photographs / '00002.png'}: truncated file")
    assert summary == "captionlens: 1 of 4 photographs failed"
    assert [line.split("\t")[1] for line in result.stdout.splitlines()] == [
        caption.text for name, caption in captions.items() if name != "00002.png"
    ]
    entries = json.loads(run(photographs, "--format", "json", code=1).stdout)
    assert [entry.get("error", {}).get("type") for entry in entries] == [None, "unreadable-image", None, None]
    assert len(json.loads(run(photographs, "--format", "coco", code=1).stdout)) == 3


def test_a_photograph_that_is_not_there(run: Run, photographs: Path) -> None:
    result = run(photographs / "none.jpg", photographs / "00001.png", code=1)
    assert f"captionlens: {photographs / 'none.jpg'}: no such file\n" in result.stderr
    assert len(result.stdout.splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("--sample", "0"), "temperature must be above 0"),
        (("--sample", "1", "--top-p", "2"), "top_p must be in (0, 1], got 2.0"),
        (("--beam", "0"), "--beam"),
        (("--max-words", "0"), "--max-words"),
        (("--batch-size", "0"), "--batch-size"),
        (("--format", "xml"), "--format"),
        (("--sidecar", "doc"), "--sidecar"),
        (("--no-such-option",), "--no-such-option"),
    ],
)
def test_wrong_usage(arguments: tuple[str, ...], named: str, run: Run, photographs: Path) -> None:
    result = run(photographs, *arguments, code=2)
    assert named in result.stderr
    assert result.stdout == ""


def test_a_bad_model(photographs: Path, tmp_path: Path) -> None:
    for folder, cause in ((tmp_path / "none", "no such model directory"), (photographs, "no manifest.json")):
        result = run_cli("caption", "--model", folder, photographs, code=1)
        assert result.stdout == ""
        (line,) = result.stderr.splitlines()
        assert line.startswith(f"captionlens: {folder}: ")
        assert cause in line


def test_an_output_that_cannot_be_written(run: Run, photographs: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    result = run(photographs, "-o", tmp_path / "file" / "captions", code=1)
    assert result.stderr.startswith("captionlens: ")
    assert "file" in result.stderr


def test_an_interrupted_run_leaves_no_half_result(
    run: Run, photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "captions.json"
    run(photographs / "00001.png", "--format", "json", "-o", output)
    before = output.read_bytes()
    release = Photograph.release

    def interrupted(photograph: Photograph) -> None:
        if photograph.name.endswith("3.png"):
            raise KeyboardInterrupt
        release(photograph)

    monkeypatch.setattr(Photograph, "release", interrupted)
    result = run(photographs, "--format", "json", "-o", output, "--batch-size", "1", code=130)
    assert "captionlens: interrupted" in result.stderr
    assert output.read_bytes() == before
    assert {path.name for path in tmp_path.iterdir()} == {"captions.json", "captions.json.part", "photographs"}
    monkeypatch.undo()
    result = run(photographs, "--format", "json", "-o", output, "--batch-size", "1")
    assert "2 of 4 photographs are captioned already" in result.stderr
    assert [entry["path"] for entry in json.loads(output.read_text())] == sorted(map(str, photographs.glob("*.png")))
    assert {path.name for path in tmp_path.iterdir()} == {"captions.json", "photographs"}


# How words are chosen.


def test_prefix_region_and_alternatives(run: Run, drawn: Path, small_model: Path) -> None:
    path = sorted(drawn.iterdir())[0]
    captioner = load(small_model, threads=1)
    request = captioner.request(prefix="a red", region=Region(0.5, 0.0, 1.0, 0.5), alternatives=2)
    wanted = captioner.caption(path, request).to_dict(attention=True)
    said = ("--prefix", "a red", "--region", "0.5,0,0.5,0.5", "--alternatives", "2")
    result = run(path, *said, "--format", "jsonl", "--attention")
    assert json.loads(result.stdout) == wanted | {"file": stamp(path)}
    assert wanted["caption"].startswith("a red")


def test_a_region_or_prefix_that_makes_no_sense(run: Run, drawn: Path) -> None:
    path = sorted(drawn.iterdir())[0]
    assert "x,y,width,height" in run(path, "--region", "1,2,3,4", code=2).stderr
    assert "zebra" in run(path, "--prefix", "a zebra", code=2).stderr
    assert "--format json" in run(path, "--alternatives", "2", code=2).stderr


def test_a_sidecar_that_fails_does_not_stop_the_figure(run: Run, photographs: Path, tmp_path: Path) -> None:
    first = sorted(photographs.glob("*.png"))[0]
    first.with_suffix(".txt").write_text("mine")
    figures = tmp_path / "figures"
    result = run(photographs, "--sidecar", "txt", "--explain", figures, "--on-existing", "error", code=1)
    assert f"{first.with_suffix('.txt')}: exists already" in result.stderr
    assert "1 of 4 photographs failed" in result.stderr
    assert len(list(figures.iterdir())) == 4


def test_beam_and_most_words(run: Run, photographs: Path, captions: dict[str, Caption]) -> None:
    short = run(photographs, "--max-words", "2", "--beam", "1", "--format", "jsonl").stdout.splitlines()
    assert all(len(json.loads(line)["words"]) <= 2 for line in short)
    assert any(len(caption.words) > 2 for caption in captions.values())


def test_samples_are_those_of_their_seed(run: Run, photographs: Path) -> None:
    hot = (photographs, "--sample", "3", "--max-words", "6")
    assert run(*hot, "--seed", "1").stdout == run(*hot, "--seed", "1", "--batch-size", "1").stdout
    assert run(*hot, "--seed", "1").stdout != run(*hot, "--seed", "2").stdout
    assert run(*hot, "--top-k", "1").stdout == run(photographs, "--beam", "1", "--max-words", "6").stdout


# Beside the photographs.


def test_text_sidecars(run: Run, photographs: Path, captions: dict[str, Caption]) -> None:
    run(photographs, "--sidecar", "txt")
    for name, caption in captions.items():
        assert (photographs / name).with_suffix(".txt").read_text() == caption.text + "\n"


def test_xmp_sidecars(run: Run, photographs: Path, captions: dict[str, Caption]) -> None:
    run(photographs, "--sidecar", "xmp")
    for name, caption in captions.items():
        content = (photographs / name).with_suffix(".xmp").read_text()
        assert f">{caption.text}<" in content or not caption.text


def test_existing_sidecars(run: Run, photographs: Path, captions: dict[str, Caption]) -> None:
    sidecar = photographs / "00001.txt"
    sidecar.write_text("written by hand")
    result = run(photographs, "--sidecar", "txt", "--on-existing", "error", code=1)
    assert f"captionlens: {sidecar}: exists already\n" in result.stderr
    assert sidecar.read_text() == "written by hand"
    assert len(result.stdout.splitlines()) == 4  # there is a caption, only no place for it
    (photographs / "00002.txt").unlink()
    result = run(photographs, "--sidecar", "txt")
    assert [line.split("\t")[0] for line in result.stdout.splitlines()] == [str(photographs / "00002.png")]
    assert "3 of 4 photographs are captioned already" in result.stderr
    assert sidecar.read_text() == "written by hand"
    run(photographs, "--sidecar", "txt", "--on-existing", "overwrite")
    assert sidecar.read_text() == captions["00001.png"].text + "\n"


def test_stdin_has_no_place_for_a_sidecar(run: Run, photographs: Path) -> None:
    content = (photographs / "00001.png").read_bytes()
    result = run("-", "--sidecar", "txt", input=content, code=1)
    assert "no place for a sidecar" in result.stderr


# Figures and reports.


def test_figures(run: Run, photographs: Path, tmp_path: Path) -> None:
    (photographs / "again").mkdir()
    shutil.copy(photographs / "00001.png", photographs / "again")
    folder = tmp_path / "new" / "figures"
    content = (photographs / "00002.png").read_bytes()
    paths = [photographs / "00001.png", photographs / "again" / "00001.png", photographs / "00003.png"]
    run(*paths, "-", "--explain", folder, input=content)
    figures = sorted(folder.rglob("*.png"))
    assert [path.relative_to(folder).as_posix() for path in figures] == [
        "00001.png", "00003.png", "again/00001.png", "stdin.png"
    ]  # fmt: skip
    for path in figures:
        with Image.open(path) as figure:
            assert figure.format == "PNG"
            assert figure.width > 200


def test_no_figure_for_what_failed(run: Run, photographs: Path, tmp_path: Path) -> None:
    (photographs / "00001.png").write_bytes(b"")
    run(photographs, "--explain", tmp_path / "figures", code=1)
    assert len(list((tmp_path / "figures").iterdir())) == 3


def test_a_report(run: Run, photographs: Path, tmp_path: Path, captions: dict[str, Caption]) -> None:
    (photographs / "00001.png").write_bytes(b"")
    report = tmp_path / "new" / "report.html"
    result = run(photographs, "--report", report, code=1)
    assert len(result.stdout.splitlines()) == 3
    page = report.read_text("utf-8")
    assert page.lower().startswith("<!doctype html>")
    assert "captionlens-small" in page
    assert "beam 3" in page
    entries = {entry["path"]: entry for entry in entries_of(page)}
    assert "00001.png: is empty" in entries.pop("00001.png")["error"]
    assert entries.keys() == captions.keys() - {"00001.png"}
    for name, entry in entries.items():
        assert entry["text"] == captions[name].text
        assert entry["image"].startswith("data:image/jpeg")
    run(photographs / "00002.png", "--report", report, "--sample", "2", "--seed", "7")
    assert "sampled, temperature 2, seed 7" in report.read_text("utf-8")
    run(photographs / "00002.png", "--report", report, "--beam", "1")
    assert "greedy" in report.read_text("utf-8")


def test_a_long_report_beside_its_photographs(
    run: Run, photographs: Path, captions: dict[str, Caption], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it lays into a folder that is captioned is not captioned the next time."""
    monkeypatch.setattr("captionlens.outputs.thumbnails.EMBEDDED_AT_MOST", len(captions) - 1)
    report = photographs / "report.html"
    for _ in range(2):
        result = run(photographs, "-r", "--report", report)
        assert len(result.stdout.splitlines()) == len(captions)
        images = [entry["image"] for entry in entries_of(report.read_text("utf-8"))]
        assert sorted(photographs.glob("report_photographs/*/*")) == [photographs / name for name in images]


def test_the_help_tells_where_photographs_of_a_long_report_lie(run: Run) -> None:
    told = " ".join(run("--help").stdout.split())
    assert f"more than {EMBEDDED_AT_MOST} photographs the pictures lie beside it, in FILE_photographs" in told


def test_faithfulness(run: Run, photographs: Path, tmp_path: Path, small_model: Path) -> None:
    (photographs / "00001.png").write_bytes(b"")
    report = tmp_path / "report.html"
    result = run(photographs, "--faithfulness", "--format", "jsonl", "--report", report, code=1)
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert [("error" in line) for line in lines] == [True, False, False, False]
    captioner = load(small_model, threads=1)
    page = report.read_text("utf-8")
    depends = []
    for line in lines[1:]:
        wanted = captioner.examine(captioner.caption(line["path"])).to_dict()
        for word, same in zip(line["words"], wanted["words"], strict=True):
            assert set(word) == {"text", "probability", "depends_on_picture", "faithfulness"}
            assert word["faithfulness"] == pytest.approx(same["faithfulness"], abs=1e-5)
            depends.append(word["depends_on_picture"])
    assert [word[-1] for entry in entries_of(page)[1:] for word in entry["examined"]] == depends
    assert "Grey and dotted" in page
    run(photographs, "--faithfulness", "--report", report, code=1)  # text is a format, too, where there is a report


@pytest.mark.parametrize("form", ["text", "csv", "coco"])
def test_faithfulness_that_would_not_show(form: str, run: Run, photographs: Path) -> None:
    result = run(photographs, "--faithfulness", "--format", form, code=2)
    assert "--faithfulness shows in" in result.stderr
    assert result.stdout == ""


# The process itself.


def test_quiet_says_nothing(small_model: Path, photographs: Path) -> None:
    done = subprocess.run(
        [*COMMAND, "caption", "--model", small_model, photographs, "--quiet"], capture_output=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert len(done.stdout.splitlines()) == 4


def test_a_photograph_through_a_pipe(small_model: Path, photographs: Path, captions: dict[str, Caption]) -> None:
    with (photographs / "00001.png").open("rb") as file:
        done = subprocess.run(
            [*COMMAND, "caption", "--model", small_model, "-"], stdin=file, capture_output=True, check=False
        )
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.decode() == captions["00001.png"].text + "\n"


def test_a_reader_that_has_seen_enough(small_model: Path, photographs: Path) -> None:
    """As `captionlens caption ... | head -1`: no traceback."""
    process = subprocess.Popen(
        [*COMMAND, "caption", "--model", small_model, photographs, "--batch-size", "1", "--quiet"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    with process:
        assert process.stderr.read() == b""
        assert process.wait(120) == 1


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_control_c(small_model: Path, tmp_path: Path) -> None:
    filelist = tmp_path / "list"
    os.mkfifo(filelist)
    process = subprocess.Popen(
        [*COMMAND, "caption", "--model", small_model, "--filelist", filelist],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # Shells start background jobs, such as this test run perhaps, deaf to it.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    with filelist.open("w"):  # opens when the command has begun to read, and gives it nothing
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=120)
    assert (process.returncode, errors) == (130, "captionlens: interrupted\n")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Photographs in folders of their owner and of programs, and what is none."""
    root = tmp_path / "tree"
    content = small_photograph(3)
    taken = ("a.jpg", "sub/b.JPG", "sub/-c.png", "sub/Grüße/d.webp", "x\ny/e.jpg")
    others = ("._a.jpg", ".hidden.jpg", ".thumbnails/a.jpg", "sub/@eaDir/a.jpg", "Catalog Previews.lrdata/a.jpg")
    for name in (*taken, *others, "sub/raw.NEF", "sub/notes.txt"):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    os.mkfifo(root / "fifo.jpg")
    (root / "sub" / "loop").symlink_to(root)
    (root / "broken.jpg").symlink_to(root / "gone")
    return root


def gathered(root: Path, **options: Any) -> tuple[list[str], dict[str, int]]:
    found = gather((str(root),), None, True, **options)
    assert not found.problems
    return [os.path.relpath(photograph.name, root) for photograph in found.photographs], dict(found.left_out)


def test_what_is_taken_of_a_folder_and_what_is_left_out(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rawpy", None)
    names, left_out = gathered(tree)
    assert sorted(names) == sorted(["a.jpg", "sub/b.JPG", "sub/-c.png", "sub/Grüße/d.webp", "x\ny/e.jpg"])
    assert left_out == {
        "hidden files": 2,
        "hidden and other programs' folders": 3,
        "links to folders": 1,
        "raw photographs (pip install 'captionlens[raw]' to read them)": 1,
        "no files": 2,
    }
    named = gather((str(tree / ".hidden.jpg"),), None, False)
    assert len(named.photographs) == 1
    assert not named.left_out


def test_patterns_of_paths(tree: Path) -> None:
    names, left_out = gathered(tree, include=["sub/*"], exclude=["*.webp"])
    assert [name for name in names if name != "sub/raw.NEF"] == ["sub/-c.png", "sub/b.JPG"]
    assert (left_out["not of --include"], left_out["of --exclude"]) == (4, 1)


def test_what_was_left_out_is_told(run: Run, tree: Path) -> None:
    shutil.rmtree(tree / "sub")
    options = ("-r", "--exclude", "x*")
    result = run(*options, tree)
    assert result.stdout.count("\n") == 1
    assert result.stderr.startswith("captionlens: left out: ")
    for part in ("hidden files: 2", "of --exclude: 1", "no files: 2"):
        assert part in result.stderr
    assert run(*options, "--quiet", tree).stderr == ""


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_folder_that_may_not_be_read_is_named(run: Run, tree: Path) -> None:
    (tree / "sub").chmod(0)
    try:
        result = run("-r", tree, code=1)
    finally:
        (tree / "sub").chmod(0o700)
    assert f"captionlens: {tree / 'sub'}: Permission denied" in result.stderr

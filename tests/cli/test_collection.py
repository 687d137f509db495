"""Collections captioned again and again: every photograph once, whatever was there, changed, or killed the last run."""

import json
import os
import random
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from captionlens.cli import collection
from captionlens.datasets.scenes import draw_scenes
from captionlens.errors import FileError
from captionlens.files import lock
from captionlens.outputs import xmp
from captionlens.runtime.captioner import Captioner
from captionlens.runtime.model_directory import add_nouns
from captionlens.runtime.nouns import Nouns
from helpers.cli import COMMAND, run_cli
from helpers.report import entries_of

Run = Callable[..., Result]
FORMS = ["jsonl", "json", "csv"]


@pytest.fixture
def run(small_model: Path) -> Run:
    def run(*arguments: str | Path, code: int = 0, **settings: object) -> Result:
        return run_cli("caption", "--model", small_model, "--threads", "1", *arguments, code=code, **settings)

    return run


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_scenes(tmp_path_factory.mktemp("scenes"), images=6, seed=0, size=64) / "images"


@pytest.fixture
def photographs(drawn: Path, tmp_path: Path) -> Path:
    """Six pictures in three folders, with names in two of them alike."""
    folder = tmp_path / "photographs"
    for number, path in enumerate(sorted(drawn.iterdir())):
        place = folder / "abc"[number // 2]
        place.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, place / f"{number % 2}.png")
    return folder


@pytest.fixture
def captioned(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the photographs that are captioned, as it happens."""
    names: list[str] = []
    finish = Captioner.finish

    def counted(self: Captioner, caption: Any, photograph: Any, request: Any) -> Any:
        names.append(photograph.name)
        return finish(self, caption, photograph, request)

    monkeypatch.setattr(Captioner, "finish", counted)
    return names


def tree(folder: Path) -> dict[str, bytes]:
    """Content of every file in a folder, by its path."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def everything(form: str, place: Path) -> list[str | Path]:
    """Options of all outputs that are continued."""
    return ["--format", form, "-o", place / "captions", "--sidecar", "xmp", "--explain", place / "figures"]


@pytest.mark.parametrize("form", FORMS)
def test_a_second_run_captions_nothing(
    form: str, run: Run, photographs: Path, tmp_path: Path, captioned: list[str]
) -> None:
    outputs = everything(form, tmp_path / "out")
    run("-r", photographs, *outputs)
    assert len(captioned) == 6
    before = tree(tmp_path)
    captioned.clear()
    result = run("-r", photographs, *outputs)
    assert result.stderr == "captionlens: 6 of 6 photographs are captioned already\n"
    assert captioned == []
    assert tree(tmp_path) == before


@pytest.mark.parametrize("form", ["jsonl", "json"])
def test_keywords_are_added_to_what_has_none(
    form: str, run: Run, model: Path, photographs: Path, tmp_path: Path, captioned: list[str]
) -> None:
    words = ("circle", "square", "star", "cross", "red", "green", "blue", "white", "yellow")
    add_nouns(model, Nouns({word: word for word in words}, "list"))
    outputs = ("-r", photographs, "--model", model, "--format", form, "-o", tmp_path / "captions", "--sidecar", "xmp")
    run(*outputs)
    before = (tmp_path / "captions").read_text()
    assert '"keywords"' not in before
    captioned.clear()
    run(*outputs, "--keywords", "2")
    assert len(captioned) == 6
    text = (tmp_path / "captions").read_text()
    results = json.loads(text) if form == "json" else list(map(json.loads, text.splitlines()))
    assert any(result["keywords"] for result in results)
    for result in results:
        said = {word["text"]: word["probability"] for word in reversed(result["words"]) if word["text"] in words}
        assert len(result["keywords"]) == min(2, len(said))
        found = xmp.Packet(Path(result["path"]).with_suffix(".xmp").read_bytes()).found
        assert found.keywords == ";".join(result["keywords"])
    captioned.clear()
    kept = tree(tmp_path)
    run(*outputs, "--keywords", "2")
    run(*outputs)
    assert captioned == []
    assert tree(tmp_path) == kept


def test_keywords_in_the_report(run: Run, model: Path, photographs: Path, tmp_path: Path) -> None:
    words = ("circle", "square", "star", "cross", "red", "green", "blue", "white", "yellow")
    add_nouns(model, Nouns({word: f"{word}s" for word in words}, "list"))
    run("-r", photographs, "--model", model, "--keywords", "2", "--report", tmp_path / "report.html")
    entries = entries_of((tmp_path / "report.html").read_text("utf-8"))
    assert len(entries) == 6
    for entry in entries:
        said = dict.fromkeys(f"{word}s" for word in entry["words"] if word in words)
        assert len(entry.get("keywords", [])) == min(2, len(said))
        assert set(entry.get("keywords", [])) <= set(said)
    assert any("keywords" in entry for entry in entries)


def test_keywords_need_a_model_with_nouns_and_a_place(run: Run, photographs: Path, tmp_path: Path) -> None:
    image = photographs / "a" / "0.png"
    done = run(image, "--keywords", "3", "--format", "csv", code=2)
    assert "keywords: captionlens-small does not know which of its words are nouns" in done.stderr
    assert "captionlens model nouns" in done.stderr
    assert "--keywords shows in --format json" in run(image, "--keywords", "3", "--sidecar", "txt", code=2).stderr
    output = tmp_path / "captions.csv"
    run(image, "--format", "csv", "-o", output)
    done = run(image, "--keywords", "3", "--format", "csv", "-o", output, code=1)
    assert "captions.csv: line 1 is no caption by captionlens, or of other columns than path," in done.stderr


def test_a_table_for_spreadsheet_programs_is_continued(
    run: Run, photographs: Path, tmp_path: Path, captioned: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(photographs / "a")
    Path("0.png").rename("=1+2.png")
    arguments = ("--format", "csv", "--spreadsheet", "semicolon", "-o", tmp_path / "captions.csv")
    run("=1+2.png", *arguments)
    assert "\n'=1+2.png;" in (tmp_path / "captions.csv").read_text("utf-8-sig")
    captioned.clear()
    run("=1+2.png", "1.png", *arguments)
    assert captioned == ["1.png"]
    assert len((tmp_path / "captions.csv").read_text().splitlines()) == 3
    result = run("1.png", "--format", "csv", "-o", tmp_path / "captions.csv", code=1)
    assert "is no caption by captionlens" in result.stderr
    assert "have the format csv, not text" in run("1.png", "--spreadsheet", "comma", code=2).stderr


@pytest.mark.parametrize("form", FORMS)
def test_what_is_new_or_has_changed_is_captioned(
    form: str, run: Run, photographs: Path, tmp_path: Path, captioned: list[str]
) -> None:
    outputs = everything(form, tmp_path / "out")
    new, changed, gone = photographs / "b" / "new.png", photographs / "a" / "0.png", photographs / "c" / "1.png"
    kept = new.read_bytes() if new.exists() else (photographs / "a" / "1.png").read_bytes()
    run("-r", photographs, *outputs)
    new.write_bytes(kept)
    shutil.copy(photographs / "b" / "1.png", changed)
    gone.unlink()
    captioned.clear()
    result = run("-r", photographs, *outputs)
    assert captioned == [str(changed), str(new)]
    assert "4 of 6 photographs are captioned already" in result.stderr
    assert "keeps 1 captions of other photographs, 1 of which are gone" in result.stderr
    once = tmp_path / "once"
    run("-r", photographs, "--format", form, "-o", once)
    text = (tmp_path / "out" / "captions").read_text()
    assert text.count(str(gone)) == 1
    if form == "jsonl":
        assert text.startswith(once.read_text())  # the order is that of a run over everything; what is gone comes last


@pytest.mark.parametrize("form", [*FORMS, "text", "coco"])
def test_an_interrupted_run_goes_on(
    form: str, run: Run, photographs: Path, tmp_path: Path, captioned: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (photographs / "b" / "bad.png").write_bytes(b"no photograph")
    arguments = ("-r", photographs, "--batch-size", "2", "--sample", "1", "--format", form)
    run(*arguments, "-o", tmp_path / "whole", code=1)
    captioned.clear()
    distribute = collection.distribute

    def interrupted(captions: Any, sinks: Any, *more: Any, **settings: Any) -> None:
        def first_few() -> Any:
            for number, caption in enumerate(captions):
                if number == 5:
                    raise KeyboardInterrupt
                yield caption

        distribute(first_few(), sinks, *more, **settings)

    monkeypatch.setattr("captionlens.cli.captioning.distribute", interrupted)
    run(*arguments, "-o", tmp_path / "parts", code=130)
    assert not (tmp_path / "parts").exists()
    with (tmp_path / "parts.part").open("ab") as file:
        file.write(b'{"path": "cut sh')  # as a power cut leaves it
    monkeypatch.undo()
    run(*arguments, "-o", tmp_path / "parts", code=1)
    assert (tmp_path / "parts").read_bytes() == (tmp_path / "whole").read_bytes()
    assert not (tmp_path / "parts.part").exists()


def test_an_unfinished_run_goes_on_with_the_same_options_only(run: Run, photographs: Path, tmp_path: Path) -> None:
    output = tmp_path / "captions"
    head = {"captionlens": 1, "model": "x", "format": "csv", "beam": 2}
    (tmp_path / "captions.part").write_text(json.dumps(head) + "\n")
    result = run("-r", photographs, "--format", "jsonl", "-o", output, code=1)
    assert "captions.part: is of an unfinished run with other options" in result.stderr
    assert "format csv, now jsonl" in result.stderr
    assert "delete it" in result.stderr
    assert not output.exists()


@pytest.mark.parametrize(
    ("form", "content"),
    [
        ("jsonl", "a letter\n"),
        ("jsonl", '{"name": 1}\n'),
        ("json", "{}"),
        ("csv", "image,caption\na,b\n"),
        ("csv", '"'),
    ],
)
def test_a_file_of_somebody_else_is_not_replaced(
    form: str, content: str, run: Run, photographs: Path, tmp_path: Path
) -> None:
    output = tmp_path / "letter"
    output.write_text(content)
    result = run("-r", photographs, "--format", form, "-o", output, code=1)
    assert f"{output}: line 1 is no caption by captionlens" in result.stderr
    assert "--on-existing overwrite" in result.stderr
    assert tree(tmp_path)["letter"].decode() == content
    run("-r", photographs, "--format", form, "-o", output, "--on-existing", "overwrite")
    assert str(photographs) in output.read_text()
    result = run("-r", photographs, "--format", form, "-o", output, "--on-existing", "error", code=1)
    assert f"{output}: exists already" in result.stderr


def test_one_writer_at_a_time(run: Run, photographs: Path, tmp_path: Path) -> None:
    with (tmp_path / "captions.part").open("wb") as file:
        lock(file)
        result = run("-r", photographs, "--format", "jsonl", "-o", tmp_path / "captions", code=1)
        assert "captions.part: another captionlens is writing it" in result.stderr
        with (tmp_path / "captions.part").open("wb") as other, pytest.raises(FileError):
            lock(other)
    run("-r", photographs, "--format", "jsonl", "-o", tmp_path / "captions")


def test_a_failure_never_replaces_a_caption(run: Run, photographs: Path, tmp_path: Path) -> None:
    output = tmp_path / "captions"
    run("-r", photographs, "--format", "jsonl", "-o", output)
    before = output.read_bytes()
    (photographs / "a" / "0.png").write_bytes(b"damaged")
    result = run("-r", photographs, "--format", "jsonl", "-o", output, code=1)
    assert "a/0.png: not a photograph" in result.stderr
    assert output.read_bytes() == before
    (photographs / "a" / "0.png").unlink()
    result = run(photographs / "a" / "0.png", "--format", "jsonl", "-o", output, code=1)
    assert "a/0.png: no such file" in result.stderr
    assert output.read_bytes() == before


def test_a_checksum_tells_the_same_content(run: Run, photographs: Path, tmp_path: Path, captioned: list[str]) -> None:
    arguments = ("-r", photographs, "--checksum", "--format", "jsonl", "-o", tmp_path / "captions")
    run(*arguments)
    captioned.clear()
    for path in photographs.rglob("*.png"):
        os.utime(path, (0, 0))
    run(*arguments)
    assert captioned == []
    content = bytearray((photographs / "a" / "0.png").read_bytes())
    (photographs / "a" / "0.png").write_bytes(content + b"more")
    os.utime(photographs / "a" / "0.png", (0, 0))
    run(*arguments)
    assert captioned == [str(photographs / "a" / "0.png")]


def test_figures_mirror_the_folders_and_are_no_photographs(run: Run, photographs: Path, captioned: list[str]) -> None:
    shutil.copy(photographs / "a" / "0.png", photographs / "a" / "0.bmp")
    figures = photographs / "figures"
    run("-r", photographs, "--explain", figures)
    names = ["a/0.png", "a/0.png.png", "a/1.png", "b/0.png", "b/1.png", "c/0.png", "c/1.png"]
    assert sorted(tree(figures)) == names  # the figure of a/0.bmp, which comes first, and of a/0.png
    captioned.clear()
    before = tree(photographs)
    result = run("-r", photographs, "--explain", figures)
    assert captioned == []
    assert "attention figures: 7" in result.stderr
    assert tree(photographs) == before


def test_a_figure_replaces_no_photograph(run: Run, photographs: Path) -> None:
    before = tree(photographs)
    run(photographs / "a", "--explain", photographs / "a")
    after = tree(photographs)
    assert {name: after[name] for name in before} == before
    assert sorted(after.keys() - before.keys()) == ["a/0.png.png", "a/1.png.png"]


def test_a_photograph_named_twice_is_captioned_once(run: Run, photographs: Path, captioned: list[str]) -> None:
    path = photographs / "a" / "0.png"
    result = run(path, path, "-r", photographs)
    assert len(captioned) == 6
    assert "named again: 2" in result.stderr


@pytest.mark.slow
@pytest.mark.parametrize("form", ["jsonl", "csv"])
def test_killed_at_any_moment(form: str, small_model: Path, photographs: Path, tmp_path: Path) -> None:
    """Runs that are killed again and again end with what one undisturbed run writes."""
    (photographs / "b" / "bad.png").write_bytes(b"no photograph")
    command = [*COMMAND, "caption", "--model", str(small_model), "--threads", "1", "--batch-size", "1", "-r"]

    def outputs(place: Path, folder: Path) -> list[str]:
        return [str(folder), *map(str, everything(form, place))]

    whole = Path(shutil.copytree(photographs, tmp_path / "whole" / "photographs"))
    subprocess.run([*command, *outputs(tmp_path / "whole" / "out", whole)], capture_output=True, check=False)
    chance = random.Random(form)
    place = Path(shutil.copytree(photographs, tmp_path / "killed" / "photographs"))
    for _ in range(6):
        process = subprocess.Popen(
            [*command, *outputs(tmp_path / "killed" / "out", place)], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL
        )
        try:
            process.wait(chance.uniform(0.5, 3))
        except subprocess.TimeoutExpired:
            process.kill()
        process.communicate()
    subprocess.run([*command, *outputs(tmp_path / "killed" / "out", place)], capture_output=True, check=False)
    killed, undisturbed = tree(tmp_path / "killed"), tree(tmp_path / "whole")
    assert killed.keys() == undisturbed.keys()
    for name, content in undisturbed.items():
        if not name.endswith((".xmp", ".png")):
            assert killed[name] == content.replace(b"/whole/", b"/killed/"), name

"""`captionlens model`: what a model directory is, and whether it is whole."""

import json
from pathlib import Path

import pytest
from click.testing import Result

from captionlens.runtime import model_directory
from captionlens.runtime.model_directory import write_manifest
from helpers.cli import run_cli


def run(*arguments: str | Path, code: int = 0) -> Result:
    result = run_cli("model", *arguments, code=code)
    assert (result.stderr == "") == (code == 0)
    return result


def test_show(small_model: Path) -> None:
    shown = dict(line.split(":", 1) for line in run("show", small_model).stdout.splitlines())
    told = {name: value.strip() for name, value in shown.items()}
    assert told["name"] == "captionlens-small"
    assert told["folder"] == str(small_model)
    assert told["backbone"] == "tiny, grid 7 x 7"
    assert told["words"] == "18"
    assert told["decoding"] == "beam 3, length penalty 1"
    assert told["trained on"] == "not recorded"
    megabytes = sum(path.stat().st_size for path in small_model.rglob("*") if path.is_file()) / 1e6
    assert told["size"] == f"{megabytes:.1f} MB, weights in half precision"


def test_show_all_of_it(small_model: Path) -> None:
    assert json.loads(run("show", "--json", small_model).stdout) == json.loads(
        (small_model / "config.json").read_text()
    )


def test_show_the_name_alone(small_model: Path) -> None:
    assert run("show", small_model, "--quiet").stdout == "captionlens-small\n"


def test_check(small_model: Path) -> None:
    assert run("check", small_model).stdout == f"{small_model}: captionlens-small is whole\n"
    assert run("check", small_model, "--quiet").stdout == ""


def test_a_damaged_model_is_told_by_file(model: Path) -> None:
    (model / "tokenizer.json").write_text("{}")
    for command in ("check", "show"):
        result = run(command, model, code=1)
        assert result.stderr.startswith(f"captionlens: {model / 'tokenizer.json'}: is not the file")
        assert result.stdout == ""


def test_check_loads_the_graphs(model: Path) -> None:
    (model / "onnx" / "start.onnx").write_bytes(b"no graph")
    write_manifest(model)
    assert "start.onnx: cannot be loaded" in run("check", model, code=1).stderr


def test_a_config_without_its_history(model: Path) -> None:
    """Captioning needs none of it, `show` does."""
    config = json.loads((model / "config.json").read_text())
    del config["training"]
    (model / "config.json").write_text(json.dumps(config))
    write_manifest(model)
    assert "is whole" in run("check", model).stdout
    assert "config.json: lacks or garbles a setting ('training')" in run("show", model, code=1).stderr


def test_no_such_folder(tmp_path: Path) -> None:
    for command in ("check", "show"):
        assert "none: no such model directory" in run(command, tmp_path / "none", code=1).stderr


def test_the_model_that_comes_along_is_the_default(small_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_directory, "PACKAGED_MODEL", small_model)
    assert str(small_model) in run("check").stdout
    assert str(small_model) in run("show").stdout


def test_nouns_are_stored_printed_and_stored_again(model: Path, tmp_path: Path) -> None:
    assert "nouns:       none\n" in run("show", model).stdout
    assert f"{model}: has no nouns; name a list" in run("nouns", model, code=1).stderr
    listed = tmp_path / "list.txt"
    listed.write_text("circle\nstar\nsquare\tblock\nunicorn\n")
    assert run("nouns", model, listed).stdout == f"{model}: 3 of 18 words are nouns\n"
    assert "nouns:       3, from list.txt\n" in run("show", model).stdout
    printed = run("nouns", model).stdout
    assert printed == "circle\nsquare\tblock\nstar\n"
    listed.write_text(printed + "cross\n")
    assert run("nouns", model, listed, "--exact", "--quiet").stdout == ""
    assert run("nouns", model).stdout == printed + "cross\n"
    assert "is whole" in run("check", model).stdout
    assert "does not exist" in run("nouns", model, tmp_path / "none", code=2).stderr


def test_nouns_of_phrases(model: Path, small_scenes: Path) -> None:
    assert run("nouns", model, small_scenes).stdout == f"{model}: 4 of 18 words are nouns\n"
    assert run("nouns", model).stdout == "circle\nsquare\nstar\ncross\n"


def test_wrong_usage() -> None:
    assert "no-such" in run("no-such", code=2).stderr

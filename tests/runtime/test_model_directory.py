"""A model directory is taken whole or refused, and the refusal names the file."""

import json
import os
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from captionlens.errors import ModelError
from captionlens.runtime.captioner import load
from captionlens.runtime.decoding import DecodingOptions
from captionlens.runtime.model_directory import FILES, FORMAT, ModelDirectory, write_manifest
from captionlens.runtime.vocabulary import Vocabulary


def refusal(folder: Path, name: str) -> str:
    """Why `load` refuses the folder; the file it names must be `name`."""
    with pytest.raises(ModelError) as caught:
        load(folder)
    assert caught.value.path == str(folder / name)
    assert str(caught.value) == f"{folder / name}: {caught.value.cause}"
    return caught.value.cause


def edit(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change a JSON file and let the manifest agree."""
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    write_manifest(path.parent)


def test_a_whole_model_opens(small_model: Path) -> None:
    opened = ModelDirectory.open(str(small_model))
    assert opened.name == "captionlens-small"
    assert opened.grid == (7, 7)
    assert opened.decoding == DecodingOptions(beam=3, max_words=8)
    assert opened.preprocessing.size == 56
    assert len(opened.vocabulary) == opened.config["network"]["vocabulary"]
    assert opened.graph("step").is_file()
    assert opened.weights.is_file()
    assert opened.config["format"] == FORMAT


def test_it_holds_what_it_should_and_nothing_else(small_model: Path) -> None:
    found = {str(path.relative_to(small_model)) for path in small_model.rglob("*") if path.is_file()}
    assert found == {*FILES, "manifest.json"}
    assert set(json.loads((small_model / "manifest.json").read_text())["sha256"]) == set(FILES)
    card = (small_model / "README.md").read_text()
    assert "captionlens-small" in card
    assert "7 x 7" in card
    plain = small_model / "README.md"
    for name in FILES:
        # Whoever may read one file may read all: safetensors' own writer keeps its file to its owner.
        assert (small_model / name).stat().st_mode == plain.stat().st_mode, name


def test_weights_are_halves_in_a_file_others_can_read(small_model: Path) -> None:
    safetensors = pytest.importorskip("safetensors.numpy")
    tensors = safetensors.load_file(small_model / "model.safetensors")
    assert {str(tensor.dtype) for tensor in tensors.values()} == {"float16"}
    assert tensors["network.embedding.weight"].shape == (len(ModelDirectory.open(small_model).vocabulary), 16)
    assert any(name.startswith("backbone.") for name in tensors)


def test_no_such_folder(tmp_path: Path) -> None:
    assert refusal(tmp_path / "none", ".") == "no such model directory"
    (tmp_path / "file").touch()
    assert refusal(tmp_path / "file", ".") == "no such model directory"
    (tmp_path / "empty").mkdir()
    assert refusal(tmp_path / "empty", ".") == "is not a model directory (no manifest.json)"


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file(name: str, model: Path) -> None:
    (model / name).unlink()
    assert refusal(model, name) == "is missing"


@pytest.mark.parametrize("name", FILES)
def test_a_changed_byte(name: str, model: Path) -> None:
    content = bytearray((model / name).read_bytes())
    content[len(content) // 2] ^= 1
    (model / name).write_bytes(content)
    assert "is not the file the manifest names" in refusal(model, name)


@pytest.mark.parametrize("name", FILES)
def test_a_truncated_file(name: str, model: Path) -> None:
    content = (model / name).read_bytes()
    (model / name).write_bytes(content[:-1])
    assert "is not the file the manifest names" in refusal(model, name)


def test_a_damaged_manifest(model: Path) -> None:
    path = model / "manifest.json"
    for content, cause in (
        ("{", "is not JSON"),
        ("[]", "is not a JSON object"),
        ("{}", "does not list"),
        ('{"sha256": ["config.json"]}', "does not list"),
        ('{"sha256": {"config.json": "0"}}', "does not list"),
    ):
        path.write_text(content)
        assert cause in refusal(model, "manifest.json")


def test_a_manifest_cannot_point_outside(model: Path) -> None:
    path = model / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["sha256"]["../../secret"] = "0"
    path.write_text(json.dumps(manifest))
    assert "does not list" in refusal(model, "manifest.json")


def test_the_tokenizer_of_another_model(model: Path) -> None:
    Vocabulary.build(["quite other words"]).save(model / "tokenizer.json")
    assert "is not the file the manifest names" in refusal(model, "tokenizer.json")
    write_manifest(model)
    assert refusal(model, "tokenizer.json") == "has 7 words, config.json says 18: not of one model"


@pytest.mark.parametrize("found", [0, 2, "1", None])
def test_another_format(found: object, model: Path) -> None:
    edit(model / "config.json", lambda config: config.update(format=found))
    assert refusal(model, "config.json") == f"is of format {found!r}, wanted {FORMAT}"


@pytest.mark.parametrize("key", ["name", "grid", "decoding", "network"])
def test_a_config_without_a_setting(key: str, model: Path) -> None:
    edit(model / "config.json", lambda config: config.pop(key))
    assert refusal(model, "config.json") == f"lacks or garbles a setting ('{key}')"


@pytest.mark.parametrize(
    "change",
    [
        {"grid": [7]},
        {"grid": 49},
        {"grid": ["seven", 7]},
        {"decoding": {"beam": 0}},
        {"decoding": {"beam": "3"}},
        {"decoding": {"magic": 1}},
        {"decoding": []},
        {"network": {}},
        {"network": None},
    ],
    ids=json.dumps,
)
def test_a_config_with_a_garbled_setting(change: dict[str, Any], model: Path) -> None:
    edit(model / "config.json", lambda config: config.update(change))
    assert "lacks or garbles a setting" in refusal(model, "config.json")


@pytest.mark.parametrize("change", [{"mean": None}, {"mean": [0.5]}, {"size": "big"}, {"size": 0}, {"std": [0, 0, 0]}])
def test_a_garbled_preprocessor_config(change: dict[str, Any], model: Path) -> None:
    edit(model / "preprocessor_config.json", lambda config: config.update(change))
    assert "lacks or garbles a setting" in refusal(model, "preprocessor_config.json")


def test_files_that_are_no_json(model: Path) -> None:
    for name in ("config.json", "preprocessor_config.json"):
        before = (model / name).read_bytes()
        (model / name).write_bytes(b"\xff{")
        write_manifest(model)
        assert "is not JSON" in refusal(model, name)
        (model / name).write_bytes(before)


def test_settings_that_disagree_with_the_graphs(model: Path) -> None:
    edit(model / "config.json", lambda config: config.update(grid=[9, 9]))
    assert refusal(model, "onnx/start.onnx") == "is made for [49], config.json says [81]"
    edit(model / "config.json", lambda config: config.update(grid=[7, 7]))
    edit(model / "preprocessor_config.json", lambda config: config.update(size=260))
    assert "is made for [3, 56, 56]" in refusal(model, "onnx/backbone.onnx")


def test_a_vocabulary_that_disagrees_with_the_graphs(model: Path) -> None:
    Vocabulary.build(["quite other words"]).save(model / "tokenizer.json")
    edit(model / "config.json", lambda config: config["network"].update(vocabulary=7))
    assert refusal(model, "onnx/step.onnx") == "is made for [18], tokenizer.json says [7]"


def test_graphs_in_each_others_place(model: Path) -> None:
    (model / "onnx" / "start.onnx").rename(model / "onnx" / "other.onnx")
    (model / "onnx" / "step.onnx").rename(model / "onnx" / "start.onnx")
    (model / "onnx" / "other.onnx").rename(model / "onnx" / "step.onnx")
    write_manifest(model)
    assert "is made for" in refusal(model, "onnx/step.onnx")


@pytest.mark.parametrize("content", [b"", b"no graph", b"\x08\x09" * 50])
def test_a_graph_that_is_none(content: bytes, model: Path) -> None:
    (model / "onnx" / "step.onnx").write_bytes(content)
    write_manifest(model)
    assert "cannot be loaded by ONNX Runtime" in refusal(model, "onnx/step.onnx")


def test_weights_that_are_too_short(model: Path) -> None:
    weights = model / "model.safetensors"
    (header,) = struct.unpack("<Q", weights.read_bytes()[:8])
    weights.write_bytes(weights.read_bytes()[: 8 + header + 1000])
    write_manifest(model)
    with pytest.raises(ModelError, match=r"onnx: cannot be loaded by ONNX Runtime"):
        load(model)


def test_nothing_is_unpickled(model: Path) -> None:
    """Python announces every unpickling to audit hooks; a pickle in the folder would be a trap."""
    (model / "weights.pkl").write_bytes(b"cos\n_exit\n(I3\ntR.")  # ends the process when it is unpickled
    code = (
        "import sys\n"
        "import captionlens.runtime.captioner\n"
        "sys.addaudithook(lambda event, _: event == 'pickle.find_class' and sys.exit('unpickled'))\n"
        "import captionlens\n"
        "print(captionlens.load(sys.argv[1]).name)"
    )
    done = subprocess.run([sys.executable, "-c", code, model], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "captionlens-small\n"), done.stderr


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission(model: Path) -> None:
    (model / "manifest.json").chmod(0)
    assert refusal(model, "manifest.json") == "Permission denied"

"""What a weights file keeps, and model directories written anew: smaller, or with newer graphs."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

import captionlens
from captionlens.errors import ModelError, OptionError
from captionlens.export.rewriting import export_again, reopen
from captionlens.export.weights import SMALLEST, fill, store
from captionlens.features.backbones.inception_v3 import InceptionV3
from captionlens.runtime.model_directory import PACKAGED_MODEL, ModelDirectory, add_nouns, write_manifest
from captionlens.runtime.nouns import Nouns
from helpers.cli import run_cli
from helpers.paths import REPOSITORY
from helpers.small_models import write_small_model

PHOTOGRAPH = REPOSITORY / "examples" / "photographs" / "cat.jpg"


def layers() -> nn.ModuleDict:
    torch.manual_seed(0)
    network = nn.ModuleDict({"wide": nn.Linear(64, 128), "kernel": nn.Conv2d(64, 32, 3), "small": nn.Linear(8, 8)})
    assert isinstance(network["wide"], nn.Linear)
    with torch.no_grad():
        network["wide"].weight[5] = 0
        network["wide"].weight[6] *= 100  # a row of its own scale
    return network


def test_eight_bits_are_near_and_small_weights_stay_halves() -> None:
    network, before = layers(), layers().state_dict()
    kept = store({"it": network}, "int8")
    kinds = {name: tensor.dtype for name, tensor in kept.items()}
    assert kinds == {
        "it.wide.weight": torch.int8, "it.wide.weight.scale": torch.float32, "it.wide.bias": torch.float16,
        "it.kernel.weight": torch.int8, "it.kernel.weight.scale": torch.float32, "it.kernel.bias": torch.float16,
        "it.small.weight": torch.float16, "it.small.bias": torch.float16,
    }  # fmt: skip
    assert before["small.weight"].numel() < SMALLEST
    for name, after in network.state_dict().items():
        rows = before[name].flatten(1) if before[name].ndim > 1 else before[name][:, None]
        largest = rows.abs().amax(1, keepdim=True)
        step = largest / 127 if kept[f"it.{name}"].dtype == torch.int8 else largest / 1024
        assert (after.reshape(rows.shape) - rows).abs().le(step / 2 + 1e-7).all(), name
    assert kept["it.wide.weight"][5].abs().max() == 0
    assert kept["it.wide.weight"].abs().amax(1).tolist() == [127] * 5 + [0] + [127] * 122


def test_other_kinds_are_refused() -> None:
    with pytest.raises(OptionError, match="weights must be half or int8, got 'int4'"):
        store({"it": layers()}, "int4")


@pytest.mark.parametrize("kind", ["half", "int8"])
def test_what_is_filled_in_is_what_was_kept(kind: str) -> None:
    network = layers()
    kept = store({"it": network}, kind)
    other = layers()
    fill({"it": other}, kept)
    for name, tensor in network.state_dict().items():
        assert torch.equal(other.state_dict()[name], tensor), name
    with pytest.raises(KeyError, match=r"it\.small\.bias"):
        fill({"it": other}, {name: tensor for name, tensor in kept.items() if name != "it.small.bias"})
    with pytest.raises(ValueError, match=r"it.small.bias is \(3,\), not \(8,\)"):
        fill({"it": other}, kept | {"it.small.bias": torch.zeros(3)})


@pytest.mark.slow
def test_the_captioner_that_comes_along_is_written_anew_as_it_is(tmp_path: Path) -> None:
    run_cli("export", PACKAGED_MODEL, "-o", tmp_path / "again", "--quiet")
    for name in ("model.safetensors", "README.md", "tokenizer.json", "confidence.json", "config.json", "nouns.json"):
        assert (tmp_path / "again" / name).read_bytes() == (PACKAGED_MODEL / name).read_bytes(), name
    ours, again = (captionlens.load(model).caption(PHOTOGRAPH) for model in (PACKAGED_MODEL, tmp_path / "again"))
    assert ours.text == again.text
    assert ours.confidence == pytest.approx(again.confidence, abs=1e-4)
    assert np.abs(ours.attention - again.attention).max() < 1e-4


@pytest.mark.slow
def test_in_eight_bits_a_model_is_half_as_large(tmp_path: Path) -> None:
    place = Path(shutil.copytree(PACKAGED_MODEL, tmp_path / "small"))
    nouns = Nouns({"dog": "dog"}, "a list")
    add_nouns(place, nouns)
    done = run_cli(
        "export", place, "-o", place, "--weights", "int8", "--name", "smaller", "--beam", "2", "--length-penalty", "0.4"
    )
    assert "wrote the model" in done.stderr
    model = ModelDirectory.open(place)  # in its own place
    before = (PACKAGED_MODEL / "model.safetensors").stat().st_size
    assert model.weights.stat().st_size < 0.55 * before
    assert (model.name, model.config["weights"]) == ("smaller", "int8")
    assert (model.decoding.beam, model.decoding.length_penalty) == (2, 0.4)
    card = (place / "README.md").read_text()
    assert card.startswith("# smaller\n")
    assert "- Weights in eight bits" in card
    assert "- Weights in half precision" not in card
    assert "The scores\n  below were measured before" in card
    kept = load_file(model.weights)
    assert kept["backbone._conv_head.weight"].dtype == torch.int8
    # What the graphs compute is what torch computes with the same rounded weights; and not far from the model before.
    reopen(model)
    images = model.preprocessing.normalise(model.preprocessing.read(PHOTOGRAPH)[None])
    features, others = (captionlens.load(folder).network.encode(images) for folder in (place, PACKAGED_MODEL))
    cosine = (features * others).sum() / np.linalg.norm(features) / np.linalg.norm(others)
    assert 0.99 < cosine < 1 - 1e-6
    assert model.nouns == nouns  # of any weights
    # A calibration goes along with its own weights only.
    assert "calibration was of other weights" in done.stderr
    assert captionlens.load(place).calibration is None


def test_options_of_runs_are_refused_for_models(small_model: Path, tmp_path: Path) -> None:
    done = run_cli("export", small_model, "-o", tmp_path / "m", "--licence", "mine", code=2)
    assert "are for runs" in done.stderr
    assert not (tmp_path / "m").exists()


def test_what_does_not_fit_is_refused_and_nothing_is_left(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong"
    shutil.copytree(PACKAGED_MODEL, wrong)
    config = json.loads((wrong / "config.json").read_text())
    config["network"]["memory"] = 16
    (wrong / "config.json").write_text(json.dumps(config))
    write_manifest(wrong)
    with pytest.raises(ModelError, match=r"has weights that do not fit its config\.json"):
        export_again(wrong, tmp_path / "new")
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "letter.txt").touch()
    with pytest.raises(ModelError, match="is not a model directory"):
        export_again(PACKAGED_MODEL, tmp_path / "taken")
    assert {path.name for path in tmp_path.iterdir()} == {"wrong", "taken"}


@pytest.mark.slow
@pytest.mark.parametrize("count_include_pad", [True, False])
def test_both_kinds_of_inception_are_reopened(count_include_pad: bool, tmp_path: Path) -> None:
    torch.manual_seed(1)
    backbone = InceptionV3(count_include_pad=count_include_pad).eval()
    for layer in backbone.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight)  # what comes in does not fade on its way
    write_small_model(tmp_path / "model", backbone, weights="int8")
    _, found = reopen(ModelDirectory.open(tmp_path / "model"))
    assert isinstance(found, InceptionV3)
    assert found.count_include_pad == count_include_pad

"""Mirrored photographs, boxes as targets of the attention, and a backbone that is trained too: the whole way."""

import json
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
import safetensors.torch
import torch

import captionlens
from captionlens.datasets import read_dataset
from captionlens.datasets.phrases import phrase_reader
from captionlens.export.torch_network import TorchNetwork
from captionlens.export.weights import store
from captionlens.features.backbones import load_backbone
from captionlens.features.backbones.base import has_fast_bfloat16
from captionlens.features.store import FeatureStore, photograph_key
from captionlens.runtime.decoding import DecodingOptions
from captionlens.scoring.evaluation import evaluate
from captionlens.training.fit import train
from captionlens.training.run_export import load_best
from captionlens.training.run_folder import open_run
from helpers.cli import SMALL_CAPTIONER, run_cli
from helpers.paths import REPOSITORY

pytestmark = pytest.mark.slow

SETTINGS = [*SMALL_CAPTIONER, "--set=epochs=2", "--set=network.word_query=true"]


@pytest.fixture(scope="module")
def run(small_scenes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with everything this file is about."""
    folder = tmp_path_factory.mktemp("supervised") / "run"
    run_cli(
        *("train", small_scenes, "-o", folder, "--boxes", small_scenes, *SETTINGS, "--set=mirror=true"),
        *("--set=attention_supervision=1", "--set=finetune_blocks=1", "--set=finetune_learning_rate=0.01"),
    )
    return folder


def test_store_holds_what_the_trained_blocks_take_of_both_views(run: Path, small_scenes: Path) -> None:
    kept_grids = FeatureStore.open(run / "features")
    trunk, _ = load_backbone("efficientnet_lite0").split(1)
    assert (kept_grids.index.backbone, kept_grids.index.channels) == (trunk.name, trunk.channels)
    data = read_dataset(small_scenes)
    for split, mirrored in (("train", True), ("val", False)):
        for record in data.split(split):
            assert photograph_key(record) in kept_grids
            assert (photograph_key(record, mirrored=True) in kept_grids) == mirrored
    one = data.split("train")[0]
    pixels = trunk.preprocessing.read(one.image)
    views = trunk.preprocessing.normalise(np.stack([pixels, pixels[:, ::-1]]))
    # Extraction computes in bfloat16 where the processor has it.
    dtype = torch.bfloat16 if has_fast_bfloat16() else torch.float32
    network = trunk.fuse().to(dtype)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stub
    with torch.inference_mode():
        expected = network(torch.from_numpy(views).to(dtype)).float().numpy()
    kept = kept_grids.read([photograph_key(one), photograph_key(one, mirrored=True)]).astype(np.float32)
    apart = np.linalg.norm(expected[0] - expected[1])
    for ours, theirs in zip(kept, expected, strict=True):
        assert np.linalg.norm(ours - theirs) < 0.02 * np.linalg.norm(theirs) < 0.1 * apart


def test_model_has_the_trained_blocks_and_the_others_as_published(run: Path) -> None:
    weights = safetensors.numpy.load_file(run / "model" / "model.safetensors")
    kept = safetensors.numpy.load_file(run / "best.safetensors")
    assert any(name.startswith("tail.") for name in kept)
    published = load_backbone("efficientnet_lite0").fuse().state_dict()
    moved = {
        name.removeprefix("backbone.")
        for name, tensor in weights.items()
        if name.startswith("backbone.")
        and not np.array_equal(tensor, published[name.removeprefix("backbone.")].half().numpy())
    }
    assert moved
    assert all(name.startswith(("_blocks.15.", "_conv_head.")) for name in moved), moved
    caption = captionlens.load(run / "model").caption(REPOSITORY / "examples/photographs/cat.jpg")
    assert caption.attention.shape[1:] == (7, 7)


def test_finished_run_is_loaded_as_it_was_exported(run: Path) -> None:
    network, _, backbone = load_best(open_run(run))
    loaded = store({"backbone": backbone.fuse(), "network": network}, "half")
    exported = safetensors.torch.load_file(run / "model" / "model.safetensors")
    assert loaded.keys() == exported.keys()
    for name, tensor in loaded.items():
        assert torch.equal(tensor, exported[name]), name


def test_boxes_move_the_attention_into_them(small_scenes: Path, tmp_path: Path) -> None:
    shares = []
    for weight in (0, 5):
        folder = tmp_path / f"run{weight}"
        run_cli(
            *("train", small_scenes, "-o", folder, "--boxes", small_scenes, *SETTINGS, "--set=epochs=12"),
            *("--set=learning_rate=0.003", f"--set=attention_supervision={weight}", "--set=network.positions=true"),
            *("--features", tmp_path / "features", "--no-export"),
        )
        network, vocabulary, backbone = load_best(open_run(folder))
        captioner = captionlens.Captioner(
            TorchNetwork(network, backbone.fuse()),
            vocabulary=vocabulary,
            preprocessing=backbone.preprocessing,
            grid=backbone.grid,
            name=folder.name,
            options=DecodingOptions(beam=1),
        )
        measured = evaluate(
            captioner,
            read_dataset(small_scenes).split("train"),
            dataset="scenes",
            split="train",
            intervals=False,
            meteor=False,
            phrases=phrase_reader(small_scenes),
            progress=False,
        )
        shares.append(measured.report["grounding"])
    assert shares[1]["attention_correctness"] > shares[0]["attention_correctness"] + 0.1
    assert shares[1]["attention_correctness"] > shares[1]["uniform"] + 0.1


def test_supervision_needs_boxes(small_scenes: Path, tmp_path: Path) -> None:
    arguments = ["train", small_scenes, "-o", tmp_path / "run", *SETTINGS, "--set=attention_supervision=1"]
    done = run_cli(*arguments, code=2)
    assert "attention_supervision needs the boxes of the training photographs: name them with --boxes" in done.stderr
    done = run_cli(*arguments, "--boxes", tmp_path, code=1)
    assert f"{tmp_path}: has neither Annotations/ and Sentences/" in done.stderr


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["--set=mirror_words=left"], "mirror_words must be pairs of different words, as in 'left right', got 'left'"),
        (["--set=finetune_blocks=-1"], "finetune_blocks must be at least 0, got -1"),
        (["--set=finetune_blocks=16"], "efficientnet_lite0 has 16 blocks: 1 to 15 can be tuned"),
    ],
)
def test_settings_that_make_no_sense_are_refused(
    settings: list[str], message: str, small_scenes: Path, tmp_path: Path
) -> None:
    done = run_cli("train", small_scenes, "-o", tmp_path / "run", *SETTINGS, *settings, code=2)
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_photograph_without_boxes_is_named_and_trained_on_without(
    small_scenes: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    lines = (small_scenes / "phrases.jsonl").read_text().splitlines(keepends=True)
    first = json.loads(lines[0])["id"]
    boxes = tmp_path / "boxes"
    boxes.mkdir()
    (boxes / "phrases.jsonl").write_text("".join(line for line in lines if json.loads(line)["id"] != first))
    done = run_cli(
        *("train", small_scenes, "-o", tmp_path / "run", "--boxes", boxes, *SETTINGS),
        *("--set=attention_supervision=1", "--set=epochs=1", "--no-export"),
    )
    assert f"has no phrases of {first}" in done.stderr
    assert open_run(tmp_path / "run").finished
    again = train(open_run(tmp_path / "run"), [read_dataset(small_scenes)], export=False, progress=False)
    assert again["captions"] > 0

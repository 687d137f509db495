"""InceptionV3 from end to end on real photographs, with random weights in each published form.

The captions mean nothing; the path must work: extract, train an epoch, evaluate, caption, figure.
"""

import json
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from PIL import Image

from captionlens.datasets import read_dataset
from captionlens.features.store import FeatureStore, photograph_key
from helpers.cli import run_cli, run_process

pytestmark = pytest.mark.slow

PHOTOGRAPHS = 12


@pytest.fixture(scope="module")
def dataset(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A few photographs of Flickr8k as a table."""
    root = shared_data / "flickr8k"
    captions: dict[str, list[str]] = {}
    for line in (root / "Flickr8k_text" / "Flickr8k.token.txt").read_text().splitlines():
        name, caption = line.split("\t")
        captions.setdefault(name.partition("#")[0], []).append(caption)
    rows = []
    for number, (name, texts) in enumerate(list(captions.items())[:PHOTOGRAPHS]):
        image = str(root / "Flicker8k_Dataset" / name)
        split = "val" if number % 3 == 0 else "train"
        rows += [json.dumps({"image": image, "caption": text, "split": split}) for text in texts]
    path = tmp_path_factory.mktemp("flickr") / "captions.jsonl"
    path.write_text("\n".join(rows))
    return path


@pytest.fixture
def torchvision_file(inception_state: dict[str, torch.Tensor], tmp_path: Path) -> Path:
    """The network as torchvision publishes it."""
    torch.save(inception_state, tmp_path / "torchvision.pth")
    return tmp_path / "torchvision.pth"


def extract(dataset: Path, weights: Path, store: Path) -> list[object]:
    """Extract a store, and return the options that name the network."""
    network: list[object] = ["--backbone", "inception_v3", "--backbone-weights", weights]
    done = run_cli("extract", dataset, "-o", store, *network)
    assert f"{PHOTOGRAPHS} photographs extracted" in done.stderr
    return network


@pytest.mark.parametrize("form", ["keras_file", "torchvision_file"])
def test_whole_way(form: str, request: pytest.FixtureRequest, dataset: Path, tmp_path: Path) -> None:
    network = extract(dataset, request.getfixturevalue(form), tmp_path / "features")
    run_cli(
        *("train", dataset, "-o", tmp_path / "run", "--features", tmp_path / "features", *network),
        *("--preset", "tutorial", "--set", "epochs=1"),
    )
    model = tmp_path / "run" / "model"
    config = json.loads((model / "config.json").read_text())
    assert (config["backbone"], config["grid"]) == ("inception_v3", [8, 8])
    run_cli("evaluate", dataset, "--model", model, "-o", tmp_path / "report.json", "--no-meteor")
    assert len(json.loads((tmp_path / "report.json").read_text())["captions"]) == PHOTOGRAPHS // 3
    photograph = json.loads(dataset.read_text().splitlines()[0])["image"]
    done = run_cli(
        *("caption", photograph, "--model", model, "--explain", tmp_path / "figures"),
        *("--format", "json", "--attention", "--max-words", 5),
    )
    (caption,) = json.loads(done.stdout)
    assert len(caption["words"]) == len(caption["caption"].split()) <= 5
    for word in caption["words"]:
        assert len(word["attention"]) == len(word["attention"][0]) == 8
    with Image.open(tmp_path / "figures" / f"{Path(photograph).stem}.png") as figure:
        assert figure.width > 200


def test_timm_leads_to_the_same_grids_as_torchvision(
    torchvision_file: Path, inception_state: dict[str, torch.Tensor], dataset: Path, tmp_path: Path
) -> None:
    timm_file = tmp_path / "timm.safetensors"
    safetensors.torch.save_file(
        {name: value for name, value in inception_state.items() if "AuxLogits" not in name}, timm_file
    )
    extract(dataset, torchvision_file, tmp_path / "torchvision")
    extract(dataset, timm_file, tmp_path / "timm")
    stores = [FeatureStore.open(tmp_path / name) for name in ("torchvision", "timm")]
    assert stores[0].index == stores[1].index
    keys = [photograph_key(record) for record in read_dataset(dataset).split("train")]
    torchvisions, timms = (store.read(keys) for store in stores)
    np.testing.assert_array_equal(torchvisions, timms)


def test_without_network_or_file_it_says_how_to_get_the_weights(dataset: Path, tmp_path: Path) -> None:
    blocked = {
        "CAPTIONLENS_CACHE": str(tmp_path),
        "https_proxy": "http://127.0.0.1:9",
        "PATH": "/usr/bin:/bin",
    }
    done = run_process("extract", dataset, "-o", tmp_path / "store", "--backbone", "inception_v3", code=1, env=blocked)
    assert "--backbone-weights" in done.stderr
    assert "inception_v3_google-0cc3c7bd.pth" in done.stderr
    assert "Traceback" not in done.stderr

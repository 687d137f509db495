"""Backbones compiled by ONNX Runtime give the grids of PyTorch's."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from captionlens.datasets import read_dataset
from captionlens.datasets.scenes import draw_scenes
from captionlens.features import extract as extraction
from captionlens.features.backbones import load_backbone
from captionlens.features.backbones.base import Backbone
from captionlens.features.backbones.inception_v3 import InceptionV3
from captionlens.features.compiled import CompiledBackbone
from captionlens.features.extract import Prepared, extract
from captionlens.features.store import FeatureStore, photograph_key
from helpers.tiny_backbone import TinyBackbone


def untrained_inception() -> Backbone:
    torch.manual_seed(0)
    return InceptionV3(count_include_pad=False).eval()


def frozen_part() -> Backbone:
    """All but the last blocks, as for fine-tuning."""
    return load_backbone("efficientnet_lite0").split(3)[0]


@pytest.mark.slow
@pytest.mark.parametrize(
    "make", [lambda: load_backbone("efficientnet_lite0"), frozen_part, untrained_inception], ids=["lite0", "part", "v3"]
)
def test_grids_are_those_of_torch(make: Callable[[], Backbone]) -> None:
    backbone = make()
    size = backbone.preprocessing.size
    pixels = np.random.default_rng(1).integers(0, 256, (3, size, size, 3), dtype=np.uint8)
    theirs = Prepared(backbone, "cpu", torch.float32)(pixels)
    ours = CompiledBackbone(backbone)(pixels)
    assert ours.shape == theirs.shape
    np.testing.assert_allclose(ours, theirs, rtol=2e-3, atol=2e-3 * float(np.abs(theirs).max()))


@pytest.mark.slow
@pytest.mark.parametrize("prepare", [CompiledBackbone, lambda backbone: Prepared(backbone, "cpu", torch.float32)])
def test_features_beyond_half_precision_are_its_largest_number(
    prepare: Callable[[Backbone], Callable[[np.ndarray], np.ndarray]],
) -> None:
    backbone = TinyBackbone()
    with torch.no_grad():
        backbone.last.weight *= 1e6
    pixels = np.random.default_rng(1).integers(0, 256, (1, 56, 56, 3), dtype=np.uint8)
    assert prepare(backbone)(pixels).max() == np.finfo(np.float16).max  # not infinite


@pytest.mark.slow
def test_many_photographs_are_extracted_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    records = read_dataset(draw_scenes(tmp_path / "scenes", images=20, seed=1, size=64)).records
    backbone = load_backbone("efficientnet_lite0")
    plain = extract(records, tmp_path / "plain", backbone, bfloat16=False, progress=False).store
    monkeypatch.setattr(extraction, "WORTH_COMPILING", 20)
    monkeypatch.setattr(extraction, "compiling_pays", lambda: True)
    monkeypatch.setattr(extraction, "Prepared", None)  # not used now
    extract(records, tmp_path / "whole", backbone, bfloat16=False, progress=False)
    compiled = FeatureStore.open(tmp_path / "whole")
    keys = [photograph_key(record) for record in records]
    np.testing.assert_allclose(compiled.read(keys), plain.read(keys), rtol=2e-3, atol=0.01)

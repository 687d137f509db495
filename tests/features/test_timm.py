"""timm's networks as backbones: the shapes they come in, and timm itself where it can be imported."""

import sys
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

from captionlens.errors import CaptionlensError, MissingExtra, OptionError, WeightsError
from captionlens.features.backbones import load_backbone
from captionlens.features.backbones.timm_backbone import TimmBackbone, preprocessing_of
from captionlens.runtime.images import Preprocessing

PREPROCESSING = Preprocessing(64, (0.5,) * 3, (0.5,) * 3)
CONFIG = {
    "input_size": (3, 64, 64),
    "interpolation": "bicubic",
    "mean": (0.1, 0.2, 0.3),
    "std": (0.4, 0.5, 0.6),
}


class Patches(nn.Module):
    """A network of one convolution with timm's `forward_features`, in each of the forms timm's come in."""

    def __init__(self, form: str) -> None:
        super().__init__()
        self.form = form
        self.convolution = nn.Conv2d(3, 12, 16, 16)
        self.num_prefix_tokens = 5 if form == "tokens" else 0

    def forward_features(self, images: Tensor) -> Any:
        grid = self.convolution(images)  # (B, 12, 4, 4)
        if self.form == "channels last":
            return grid.permute(0, 2, 3, 1)
        if self.form == "tokens":
            tokens = grid.flatten(2).transpose(1, 2)
            return torch.cat([tokens.new_full((len(tokens), 5, 12), 9.0), tokens], 1)
        if self.form == "pair":
            return grid, grid
        if self.form == "pooled":
            return grid.mean((2, 3))
        if self.form == "not square":
            return grid.flatten(2).transpose(1, 2)[:, 1:]
        return grid


@torch.no_grad()
@pytest.mark.parametrize("form", ["channels first", "channels last", "tokens"])
def test_every_form_becomes_places_row_by_row(form: str) -> None:
    network = Patches(form)
    backbone = TimmBackbone("timm:patches", network, PREPROCESSING)
    assert (backbone.grid, backbone.channels) == ((4, 4), 12)
    images = torch.randn(2, 3, 64, 64)
    places = backbone(images)
    assert places.shape == (2, 16, 12)
    for row in range(4):
        for column in range(4):
            patch = images[:, :, 16 * row : 16 * row + 16, 16 * column : 16 * column + 16]
            alone = network.convolution(patch)[:, :, 0, 0]
            torch.testing.assert_close(places[:, 4 * row + column], alone)


@pytest.mark.parametrize(
    ("form", "cause"),
    [("pair", "no single grid"), ("pooled", r"shape \(1, 12\)"), ("not square", "15 places")],
)
def test_networks_without_a_square_grid_are_refused(form: str, cause: str) -> None:
    with pytest.raises(OptionError, match=cause):
        TimmBackbone("timm:patches", Patches(form), PREPROCESSING)


def test_preprocessing_is_timms() -> None:
    wanted = Preprocessing(64, (0.1, 0.2, 0.3), (0.4, 0.5, 0.6), "bicubic")
    assert preprocessing_of("timm:x", CONFIG) == wanted
    assert preprocessing_of("timm:x", CONFIG | {"interpolation": "random"}) == wanted
    assert preprocessing_of("timm:x", CONFIG | {"interpolation": "bilinear"}).interpolation == "bilinear"
    for shape in ((1, 64, 64), (3, 64, 96)):
        with pytest.raises(OptionError, match="not square RGB"):
            preprocessing_of("timm:x", CONFIG | {"input_size": shape})


def _forget_timm(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in [name for name in sys.modules if name.partition(".")[0] == "timm"]:
        monkeypatch.delitem(sys.modules, module)


def test_missing_timm_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    _forget_timm(monkeypatch)
    monkeypatch.setattr(sys, "path", [])
    with pytest.raises(MissingExtra, match=r"captionlens\[timm\]"):
        load_backbone("timm:resnet18")


def test_timm_that_cannot_be_imported_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _forget_timm(monkeypatch)
    monkeypatch.syspath_prepend(tmp_path)
    package = tmp_path / "timm"
    package.mkdir()
    (package / "__init__.py").write_text("raise RuntimeError('operator torchvision::nms does not exist')")
    with pytest.raises(CaptionlensError, match="cannot be imported: RuntimeError: operator torchvision::nms"):
        load_backbone("timm:resnet18")
    (package / "__init__.py").write_text("import a_package_that_is_not_there")
    with pytest.raises(CaptionlensError, match="No module named 'a_package_that_is_not_there'"):
        load_backbone("timm:resnet18")


@pytest.fixture(scope="module")
def timm() -> Any:
    try:
        import timm
    except Exception as error:  # noqa: BLE001 - torchvision beside an unlike torch raises RuntimeError
        pytest.skip(f"timm cannot be imported: {type(error).__name__}: {error}")
    return timm


@pytest.mark.slow
@torch.no_grad()
@pytest.mark.parametrize(
    ("name", "grid", "channels"),
    [
        ("resnet18.a1_in1k", (7, 7), 512),
        ("vit_tiny_patch16_224.augreg_in21k_ft_in1k", (14, 14), 192),
        ("swin_tiny_patch4_window7_224.ms_in1k", (7, 7), 768),
    ],
)
def test_timms_networks(timm: Any, name: str, grid: tuple[int, int], channels: int, tmp_path: Path) -> None:
    network = timm.create_model(name, pretrained=False).eval()
    path = tmp_path / "model.safetensors"
    safetensors.torch.save_file({key: value.contiguous() for key, value in network.state_dict().items()}, path)
    backbone = load_backbone(f"timm:{name}", path)
    assert (backbone.name, backbone.grid, backbone.channels) == (f"timm:{name}", grid, channels)
    size = backbone.preprocessing.size
    assert backbone.preprocessing.mean == tuple(network.default_cfg["mean"])
    images = torch.randn(2, 3, size, size)
    wanted = network.forward_features(images)
    if wanted.ndim == 3:
        wanted = wanted[:, network.num_prefix_tokens :]
    elif wanted.shape[1] == channels:
        wanted = wanted.permute(0, 2, 3, 1)
    places = backbone(images)
    torch.testing.assert_close(places, wanted.reshape(2, grid[0] * grid[1], channels))
    torch.testing.assert_close(backbone.fuse()(images), places)


def test_what_timm_refuses_is_a_clear_error(timm: Any, tmp_path: Path) -> None:
    for name in ("timm:no_such_network", "timm:resnet18.no_such_weights"):
        with pytest.raises(OptionError, match=name):
            load_backbone(name)
    with pytest.raises(WeightsError, match="no such file"):
        load_backbone("timm:resnet18", tmp_path / "missing.safetensors")
    path = tmp_path / "other.safetensors"
    safetensors.torch.save_file({"a": torch.zeros(1)}, path)
    with pytest.raises(WeightsError, match=r"other\.safetensors: does not fit timm's resnet18"):
        load_backbone("timm:resnet18", path)
    torch.save({"a": Path("/")}, tmp_path / "unsafe.pth")
    with pytest.raises(WeightsError, match="more than plain tensors"):
        load_backbone("timm:resnet18", tmp_path / "unsafe.pth")

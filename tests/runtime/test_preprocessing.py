"""How photographs are prepared for a backbone, against plain formulas."""

import dataclasses
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from captionlens.errors import OptionError
from captionlens.runtime.images import Preprocessing, read_image
from helpers.images import encoded, quadrants

PREPARATION = Preprocessing(12, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def test_normalising_is_the_formula() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (2, 5, 4, 3), np.uint8)
    wanted = (pixels / 255 - np.array(PREPARATION.mean)) / np.array(PREPARATION.std)
    found = PREPARATION.normalise(pixels)
    assert found.dtype == np.float32
    assert found.flags.c_contiguous
    np.testing.assert_allclose(found, wanted.transpose(0, 3, 1, 2), rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(found[1], PREPARATION.normalise(pixels[1]))


def triangle_resize(pixels: NDArray[Any], size: int) -> NDArray[np.float64]:
    """Bilinear reduction as a matrix product: every new pixel is a triangle-weighted mean of the old ones."""

    def weights(old: int) -> NDArray[np.float64]:
        scale = old / size
        centres = (np.arange(size) + 0.5) * scale
        distances = np.abs(np.arange(old) + 0.5 - centres[:, None]) / max(scale, 1.0)
        table: NDArray[np.float64] = np.clip(1 - distances, 0, None)
        total: NDArray[np.float64] = table.sum(1, keepdims=True)
        return table / total

    rows, columns = weights(pixels.shape[0]), weights(pixels.shape[1])
    resized: NDArray[np.float64] = np.einsum("ih,hwc,jw->ijc", rows, pixels.astype(np.float64), columns)
    return resized


@pytest.mark.parametrize("shape", [(40, 60, 3), (7, 9, 3), (12, 12, 3), (13, 300, 3)])
def test_resizing_squeezes_the_whole_photograph_into_the_square(shape: tuple[int, ...]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    found = PREPARATION.resize(Image.fromarray(pixels))
    assert found.shape == (12, 12, 3)
    assert found.dtype == np.uint8
    np.testing.assert_allclose(found, triangle_resize(pixels, 12), atol=1.01)


def test_apply_is_resize_then_normalise() -> None:
    image = quadrants(50, 70)
    np.testing.assert_array_equal(PREPARATION.apply(image), PREPARATION.normalise(PREPARATION.resize(image)))


def test_bicubic_is_another_filter() -> None:
    bicubic = dataclasses.replace(PREPARATION, interpolation="bicubic")
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (20, 20, 3), np.uint8))
    wanted = np.asarray(image.resize((12, 12), Image.Resampling.BICUBIC))
    np.testing.assert_array_equal(bicubic.resize(image), wanted)
    assert (bicubic.resize(image) != PREPARATION.resize(image)).any()


def test_reading_a_large_jpeg_is_nearly_resizing_the_whole() -> None:
    ramp = np.linspace(0, 255, 400)
    pixels = np.stack([np.add.outer(ramp, ramp) / 2, np.tile(ramp, (400, 1)), np.tile(ramp[:, None], 400)], -1)
    content = encoded(Image.fromarray(pixels.astype(np.uint8)), "JPEG", quality=95)
    found = PREPARATION.read(content).astype(int)
    wanted = PREPARATION.resize(read_image(content)).astype(int)
    assert np.abs(found - wanted).max() <= 6


def test_preprocessing_goes_to_plain_values_and_back() -> None:
    for preparation in (PREPARATION, Preprocessing(260, (0.5,) * 3, (0.5,) * 3, "bicubic")):
        assert Preprocessing.from_dict(preparation.to_dict()) == preparation
    values = PREPARATION.to_dict()
    assert values == {
        "size": 12,
        "mean": [0.485, 0.456, 0.406],
        "std": [0.229, 0.224, 0.225],
        "interpolation": "bilinear",
    }
    del values["interpolation"]
    assert Preprocessing.from_dict(values) == PREPARATION


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"size": 0}, "size must be at least 1 pixel, got 0"),
        ({"interpolation": "magic"}, "interpolation must be one of .*, got 'magic'"),
        ({"std": (1.0, 0.0, 1.0)}, "std must be above 0"),
    ],
)
def test_preprocessing_refuses_nonsense(change: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        dataclasses.replace(PREPARATION, **change)

"""InceptionV3 against Keras' own, in every published form of the weights, and the download of the weights."""

import hashlib
import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import safetensors.torch
import torch
from PIL import Image, ImageDraw

from captionlens.errors import WeightsError
from captionlens.features.backbones import inception_v3, inception_weights, load_backbone
from captionlens.features.backbones.weights_cache import cache_folder, cached_weights
from captionlens.fetch import Patience
from helpers.download import serve

pytestmark = pytest.mark.slow


def picture() -> Image.Image:
    """A picture with smooth areas, edges and noise, and something different in every part."""
    row, column = np.mgrid[0:240, 0:320]
    sky = np.stack([column / 2, row, 255 - column / 2], -1).clip(0, 255).astype(np.uint8)
    image = Image.fromarray(sky)
    draw = ImageDraw.Draw(image)
    draw.ellipse((30, 40, 130, 150), fill=(220, 40, 30))
    draw.rectangle((180, 120, 300, 230), fill=(20, 160, 60))
    draw.line((0, 239, 319, 0), fill=(250, 250, 250), width=7)
    noise = np.random.default_rng(5).normal(0, 12, (240, 320, 3))
    return Image.fromarray((np.asarray(image) + noise).clip(0, 255).astype(np.uint8))


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    """One prepared photograph (1, 3, 299, 299) in [-1, 1]."""
    return torch.from_numpy(inception_v3.InceptionV3(count_include_pad=True).preprocessing.apply(picture()))[None]


@pytest.fixture(scope="module")
def keras_grid(keras_network: Any, images: torch.Tensor) -> np.ndarray:
    return _grid_of(keras_network, images)


@pytest.fixture(scope="module")
def zero_padded_grid(keras: Any, keras_network: Any, images: torch.Tensor) -> np.ndarray:
    """As torchvision computes it: Keras' network, zeros put around what its 3x3 averages are taken of."""

    def replace(layer: Any) -> Any:
        if isinstance(layer, keras.layers.AveragePooling2D):
            average = keras.layers.AveragePooling2D(3, strides=1, padding="valid")
            return keras.Sequential([keras.layers.ZeroPadding2D(1), average])
        return type(layer).from_config(layer.get_config())

    network = keras.models.clone_model(keras_network, clone_function=replace)
    for layer in keras_network.layers:
        if layer.weights:
            network.get_layer(layer.name).set_weights(layer.get_weights())
    return _grid_of(network, images)


def _grid_of(network: Any, images: torch.Tensor) -> np.ndarray:
    """A Keras network's grid (8, 8, 2048)."""
    output = network.predict(images.permute(0, 2, 3, 1).numpy(), verbose=0)
    grid: np.ndarray = np.asarray(output)[0]
    return grid


@torch.no_grad()
def _our_grid(network: torch.nn.Module, images: torch.Tensor) -> np.ndarray:
    places = network(images)
    assert places.shape == (1, 64, 2048)
    grid: np.ndarray = places[0].reshape(8, 8, 2048).numpy()
    return grid


def test_keras_2_file_equals_keras(
    keras_file: Path, keras_grid: np.ndarray, zero_padded_grid: np.ndarray, images: torch.Tensor
) -> None:
    network = inception_v3.load(keras_file)
    assert not network.training
    assert not network.count_include_pad
    grid = _our_grid(network, images)
    assert 0.2 < keras_grid.std() < 5  # neither dead nor exploded, so that the tolerance means something
    assert np.abs(grid - keras_grid).max() < 1e-4
    assert np.abs(grid - zero_padded_grid).max() > 1e-2


def test_keras_3_file_equals_keras(
    keras_network: Any, keras_grid: np.ndarray, images: torch.Tensor, tmp_path: Path
) -> None:
    path = tmp_path / "model.weights.h5"
    keras_network.save_weights(path)
    assert np.abs(_our_grid(load_backbone("inception_v3", path), images) - keras_grid).max() < 1e-4


@pytest.mark.parametrize("form", ["pth", "pth of old torch", "safetensors"])
def test_torchvision_and_timm_files_count_the_padding(
    form: str,
    inception_state: dict[str, torch.Tensor],
    keras_grid: np.ndarray,
    zero_padded_grid: np.ndarray,
    images: torch.Tensor,
    tmp_path: Path,
) -> None:
    path = tmp_path / "weights"
    if form == "safetensors":
        safetensors.torch.save_file({k: v for k, v in inception_state.items() if not k.startswith("AuxLogits")}, path)
    elif form == "pth":
        torch.save(inception_state, path)
    else:  # torchvision's older file, which lacks the counters too
        old = {name: tensor for name, tensor in inception_state.items() if "num_batches" not in name}
        torch.save(old, path, _use_new_zipfile_serialization=False)
    network = inception_v3.load(path)
    assert network.count_include_pad
    grid = _our_grid(network, images)
    assert np.abs(grid - zero_padded_grid).max() < 1e-4
    assert np.abs(grid - keras_grid).max() > 1e-2


def test_fused_network_gives_the_same_grid(keras_file: Path, keras_grid: np.ndarray, images: torch.Tensor) -> None:
    fused = inception_v3.load(keras_file).fuse()
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in fused.modules())
    assert np.abs(_our_grid(fused, images) - keras_grid).max() < 1e-3


def test_way_of_averaging_is_part_of_the_fingerprint(inception_state: dict[str, torch.Tensor]) -> None:
    prints = set()
    for include in (True, True, False):
        network = inception_v3.InceptionV3(count_include_pad=include)
        network.load_state_dict({k: v for k, v in inception_state.items() if not k.startswith(("fc", "AuxLogits"))})
        prints.add(network.fingerprint())
    assert len(prints) == 2


def test_pictures_are_prepared_as_the_weights_expect(images: torch.Tensor) -> None:
    assert images.shape == (1, 3, 299, 299)
    white, black = Image.new("RGB", (40, 30), "white"), Image.new("RGB", (40, 30))
    preprocessing = inception_v3.InceptionV3(count_include_pad=True).preprocessing
    np.testing.assert_allclose(preprocessing.apply(white), 1, atol=1e-6)
    np.testing.assert_allclose(preprocessing.apply(black), -1, atol=1e-6)


def _own_state() -> dict[str, torch.Tensor]:
    return dict(inception_v3.InceptionV3(count_include_pad=True).state_dict())


def _refused(path: Path) -> str:
    with pytest.raises(WeightsError) as caught:
        inception_v3.load(path)
    assert str(path) in str(caught.value)
    return caught.value.cause


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (
            lambda state: state.pop("Mixed_7c.branch_pool.conv.weight"),
            "1 missing (Mixed_7c.branch_pool.conv.weight)",
        ),
        (lambda state: state.update(more=torch.zeros(1)), "1 unexpected (more)"),
        (
            lambda state: state.update({"Conv2d_1a_3x3.bn.bias": torch.zeros(5)}),
            "Conv2d_1a_3x3.bn.bias (5,), not (32,)",
        ),
    ],
)
def test_weights_that_do_not_fit_are_named(change: Any, named: str, tmp_path: Path) -> None:
    state = _own_state()
    change(state)
    torch.save(state, tmp_path / "weights.pth")
    assert named in _refused(tmp_path / "weights.pth")


def test_of_many_misfits_the_first_are_named(tmp_path: Path) -> None:
    safetensors.torch.save_file({"a": torch.zeros(1)}, tmp_path / "weights")
    cause = _refused(tmp_path / "weights")
    assert "470 missing (Conv2d_1a_3x3.conv.weight; " in cause
    assert len(cause) < 300


class _Trap:
    """Unpickling this would create a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("old_form", [True, False])
def test_nothing_but_tensors_is_unpickled(old_form: bool, tmp_path: Path) -> None:
    path, sprung = tmp_path / "weights.pth", tmp_path / "sprung"
    torch.save({"a": _Trap(sprung)}, path, _use_new_zipfile_serialization=not old_form)
    assert "plain tensors" in _refused(path)
    assert not sprung.exists()
    torch.load(path, weights_only=False)
    assert sprung.exists()  # the trap does work


def test_other_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "weights"
    assert "No such file" in _refused(path)
    for content in (
        b"",
        b"hello, this is text",
        b"\x89HDF\r\n\x1a\n and then nothing",
        b"PK\x03\x04 cut off",
    ):
        path.write_bytes(content)
        _refused(path)
    path.write_bytes((50).to_bytes(8, "little") + b'{"a": cut off')
    assert ".safetensors" in _refused(path)
    torch.save([torch.zeros(2)], path)
    assert "names and tensors" in _refused(path)
    with h5py.File(path, "w") as file:
        file["x"] = np.zeros(3)
    assert "no layer_names" in _refused(path)


def test_keras_file_of_another_network_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.h5"
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [b"conv2d"]
        layer = file.create_group("conv2d")
        layer.attrs["weight_names"] = [b"conv2d/kernel:0"]
        layer["conv2d/kernel:0"] = np.zeros((3, 3, 3, 32), np.float32)
    assert "1 convolutions and 0 batch normalisations, not 94 of each" in _refused(path)


@pytest.mark.parametrize("name", ["model.keras", "model.h5"])
def test_whole_model_of_keras_is_refused_with_the_way_to_its_weights(keras: Any, name: str, tmp_path: Path) -> None:
    layers = [keras.layers.Conv2D(2, 3, use_bias=False), keras.layers.BatchNormalization(scale=False)]
    model = keras.Sequential([keras.layers.Input((8, 8, 3)), *layers])
    path = tmp_path / "told by its content"
    model.save(tmp_path / name)
    (tmp_path / name).rename(path)
    assert re.match(r"is a whole model saved by Keras.*load_model.*save_weights\(", _refused(path))
    model.save_weights(tmp_path / "alone.weights.h5")  # as it says
    cause = _refused(tmp_path / "alone.weights.h5")
    assert "is not of inception_v3: 1 convolutions and 1 batch normalisations" in cause


def _texts(names: Any) -> list[str]:
    return [name.decode() if isinstance(name, bytes) else str(name) for name in names]


def test_names_with_colons_and_in_chunks_are_understood(keras_file: Path, tmp_path: Path) -> None:
    """Keras 2 wrote `kernel:0`, and cut lists of names too long for an HDF5 attribute into several."""
    path = tmp_path / "chunks.h5"
    with h5py.File(keras_file) as source, h5py.File(path, "w") as target:
        layers = _texts(source.attrs["layer_names"])
        for index, chunk in enumerate(np.array_split(layers, 12)):  # 10 comes after 9, not after 1
            target.attrs[f"layer_names{index}"] = chunk.astype("S")
        for layer in layers:
            group = target.create_group(layer)
            names = _texts(source[layer].attrs["weight_names"])
            group.attrs["weight_names"] = [f"{name}:0".encode() for name in names]
            for name in names:
                group[f"{name}:0"] = source[layer][name][()]
    read, wanted = inception_weights.read(path).tensors, inception_weights.read(keras_file).tensors
    assert read.keys() == wanted.keys()
    assert all(torch.equal(read[name], wanted[name]) for name in wanted)


CONTENT = bytes(range(256)) * 5000
DIGEST = hashlib.sha256(CONTENT).hexdigest()


@contextmanager
def _server(content: bytes, *, cut: int = 0) -> Iterator[tuple[str, list[str]]]:
    """A web server on this machine: its address and the paths asked for; `cut` bytes are not sent."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(200 if self.path == "/weights.pth" else 404)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content[: len(content) - cut])

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.parametrize("digits", [8, 64])
def test_weights_are_downloaded_once(digits: int, tmp_path: Path) -> None:
    with _server(CONTENT) as (address, asked):
        for _ in range(2):
            path = cached_weights("w.pth", f"{address}/weights.pth", DIGEST[:digits], folder=tmp_path / "new")
            assert path == tmp_path / "new" / "w.pth"
            assert path.read_bytes() == CONTENT
        assert asked == ["/weights.pth"]
        path.write_bytes(b"damaged")
        cached_weights("w.pth", f"{address}/weights.pth", DIGEST[:digits], folder=tmp_path / "new")
        assert path.read_bytes() == CONTENT


def test_failed_downloads_leave_no_file_and_say_what_to_do(tmp_path: Path) -> None:
    impatient = Patience(attempts=1)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        unreachable = f"http://127.0.0.1:{free.getsockname()[1]}/weights.pth"
    cases = []
    with _server(CONTENT, cut=1000) as (cut_short, _), _server(CONTENT) as (address, _):
        cases.append((unreachable, DIGEST, "Connection refused"))
        cases.append((f"{address}/elsewhere.pth", DIGEST, "Not Found"))
        cases.append((f"{cut_short}/weights.pth", DIGEST, "after 1,279,000 of 1,280,000 bytes"))
        wrong = "0" * 8
        cases.append((f"{address}/weights.pth", wrong, f"sha256:{DIGEST}, not the published checksum sha256:{wrong}"))
        cases.append((tmp_path.as_uri(), DIGEST, "only http and https"))
        for url, digest, cause in cases:
            with pytest.raises(WeightsError) as caught:
                cached_weights("w.pth", url, digest, folder=tmp_path, patience=impatient)
            message = str(caught.value)
            assert cause in message
            assert f"Fetch {url} by other means" in message
            assert "--backbone-weights FILE" in message
            left = {path.name for path in tmp_path.iterdir()} - {".lock"}
            # What a broken connection brought is for the next call; nothing else stays.
            assert left == ({"w.pth.part", "w.pth.part.json"} if url.startswith(cut_short) else set())
            for name in left:
                (tmp_path / name).unlink()


def test_download_that_broke_off_goes_on(tmp_path: Path) -> None:
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "weights.pth").write_bytes(CONTENT)
    with serve(tmp_path / "site", drop_after=500_000) as address:
        url = f"{address}weights.pth"
        with pytest.raises(WeightsError, match="after 500,000 of 1,280,000 bytes"):
            cached_weights("w.pth", url, DIGEST[:8], folder=tmp_path, patience=Patience(attempts=1))
        path = cached_weights("w.pth", url, DIGEST[:8], folder=tmp_path, patience=Patience(backoff=0.01))
        assert [span for _, span in address.requests] == [None, "bytes=500000-", "bytes=1000000-"]
    assert path.read_bytes() == CONTENT


def test_no_redirect_leads_to_another_scheme(tmp_path: Path) -> None:
    # urllib alone would follow this one.
    with (
        serve(tmp_path, redirect="ftp://127.0.0.1:9/w.pth") as address,
        pytest.raises(WeightsError, match=r"redirected to ftp://.*not followed.*--backbone-weights FILE"),
    ):
        cached_weights("w.pth", f"{address}w.pth", DIGEST, folder=tmp_path)
    assert not (tmp_path / "w.pth").exists()


def test_without_a_file_torchvisions_weights_are_downloaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.save(_own_state(), tmp_path / "published.pth")
    content = (tmp_path / "published.pth").read_bytes()
    monkeypatch.setenv("CAPTIONLENS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(inception_v3, "WEIGHTS_SHA256", hashlib.sha256(content).hexdigest()[:8])
    with _server(content) as (address, asked):
        monkeypatch.setattr(inception_v3, "WEIGHTS_URL", f"{address}/weights.pth")
        network = load_backbone("inception_v3")
        assert asked == ["/weights.pth"]
    assert (tmp_path / "cache" / "weights" / "weights.pth").is_file()
    assert torch.equal(
        network.state_dict()["Conv2d_1a_3x3.conv.weight"],
        torch.load(tmp_path / "published.pth", weights_only=True)["Conv2d_1a_3x3.conv.weight"],
    )


def test_cache_folder_is_in_the_home_folder_unless_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CAPTIONLENS_CACHE", raising=False)
    assert cache_folder() == Path.home() / ".cache" / "captionlens" / "weights"
    monkeypatch.setenv("CAPTIONLENS_CACHE", "/elsewhere")
    assert cache_folder() == Path("/elsewhere/weights")

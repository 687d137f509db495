"""Devices: what is not there is refused with a message that helps, and never silently replaced."""

from pathlib import Path

import onnxruntime as ort
import pytest

import captionlens
from captionlens.errors import DeviceError, OptionError
from captionlens.runtime.devices import DEVICES, check_provider, provider_of
from captionlens.runtime.model_directory import ModelDirectory
from captionlens.runtime.onnx_network import OnnxNetwork
from helpers.cli import run_cli
from helpers.paths import REPOSITORY

PHOTOGRAPH = REPOSITORY / "examples" / "photographs" / "cat.jpg"
PROVIDERS = {
    "cuda": "CUDAExecutionProvider",
    "openvino": "OpenVINOExecutionProvider",
    "coreml": "CoreMLExecutionProvider",
}
ABSENT = [device for device, provider in PROVIDERS.items() if provider not in ort.get_available_providers()]
PRESENT = [device for device in DEVICES if device not in ABSENT]


def test_unknown_devices_and_threads_are_refused(small_model: Path) -> None:
    with pytest.raises(OptionError, match="cpu, cuda, openvino, coreml, got 'tpu'"):
        captionlens.load(small_model, device="tpu")
    with pytest.raises(OptionError, match="threads must be at least 0, got -1"):
        captionlens.load(small_model, threads=-1)


@pytest.mark.parametrize("device", ABSENT)
def test_what_is_not_installed_is_refused_with_its_remedy(small_model: Path, device: str) -> None:
    with pytest.raises(DeviceError, match=f"device {device}: this ONNX Runtime has no {PROVIDERS[device]}") as caught:
        captionlens.load(small_model, device=device)
    assert caught.value.device == device
    assert "onnxruntime" in caught.value.cause
    done = run_cli("caption", "--device", device, PHOTOGRAPH, code=1)
    assert f"device {device}" in done.stderr


@pytest.mark.parametrize("device", PRESENT)
def test_every_device_that_is_there_says_the_same(small_model: Path, device: str) -> None:
    here = captionlens.load(small_model, device=device)
    assert here.caption(PHOTOGRAPH).text == captionlens.load(small_model).caption(PHOTOGRAPH).text
    assert here.network._sessions["backbone"].get_providers()[0] == provider_of(device)  # type: ignore[attr-defined]


def test_a_session_that_went_back_to_the_processor_is_noticed(small_model: Path) -> None:
    session = OnnxNetwork(ModelDirectory.open(small_model))._sessions["step"]
    check_provider(session, "cpu")
    with pytest.raises(DeviceError, match="OpenVINOExecutionProvider is installed but cannot be started"):
        check_provider(session, "openvino")


def test_threads_change_nothing_but_time(small_model: Path) -> None:
    photographs = sorted(PHOTOGRAPH.parent.glob("*.jpg"))
    one, *others = (captionlens.load(small_model, threads=threads) for threads in (1, 2, 3))
    wanted = [one.caption(photograph) for photograph in photographs]
    for captioner in (one, *others):
        many: list[str | Path] = [*photographs[:3], "missing.jpg", *photographs[3:]]
        first, second, third, bad, *rest = captioner.caption_many(many, batch_size=3)
        assert bad.error is not None
        for found, caption in zip((first, second, third, *rest), wanted, strict=True):
            assert (found.path, found.text) == (caption.path, caption.text)
            assert found.attention == pytest.approx(caption.attention, abs=1e-5)

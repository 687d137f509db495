"""Devices of ONNX Runtime: the processor, or an accelerator through one of its execution providers."""

from typing import TYPE_CHECKING

from captionlens.errors import DeviceError, OptionError

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

# The execution provider of each device, and how it is installed.
_PROVIDERS = {
    "cpu": ("CPUExecutionProvider", "every onnxruntime has it"),
    "cuda": ("CUDAExecutionProvider", "pip uninstall onnxruntime, then pip install onnxruntime-gpu"),
    "openvino": ("OpenVINOExecutionProvider", "pip uninstall onnxruntime, then pip install onnxruntime-openvino"),
    "coreml": ("CoreMLExecutionProvider", "onnxruntime for macOS has it"),
}
DEVICES = tuple(_PROVIDERS)


def provider_of(device: str) -> str:
    """The execution provider of a device, checked to be part of this ONNX Runtime.

    Args:
        device: one of DEVICES.

    Raises:
        OptionError: the device is unknown.
        DeviceError: this ONNX Runtime lacks its provider; the message says how to install it.
    """
    if device not in _PROVIDERS:
        raise OptionError(f"device must be one of {', '.join(DEVICES)}, got {device!r}")
    from onnxruntime import get_available_providers  # here, since listing DEVICES must not load it

    provider, remedy = _PROVIDERS[device]
    there = get_available_providers()
    if provider not in there:
        names = ", ".join(name for name, (known, _) in _PROVIDERS.items() if known in there)
        raise DeviceError(device, f"this ONNX Runtime has no {provider}, only devices {names}; {remedy}")
    return provider


def check_provider(session: "InferenceSession", device: str) -> None:
    """Check that a session runs on its device: ONNX Runtime falls back to the processor without an error.

    Raises:
        DeviceError: the session fell back.
    """
    provider, _ = _PROVIDERS[device]
    if provider not in session.get_providers():
        raise DeviceError(device, f"{provider} is installed but cannot be started: is its driver there?")

"""The captioning network in ONNX Runtime, an implementation of `runtime.decoding.Network`."""

from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from captionlens.errors import ModelError, OptionError, RegionError
from captionlens.runtime.decoding import State
from captionlens.runtime.devices import check_provider, provider_of
from captionlens.runtime.model_directory import GRAPHS, WEIGHTS, ModelDirectory


class OnnxNetwork:
    """The graphs backbone, start and step of a model directory.

    All three take their weights from one memory-mapped `model.safetensors`.

    Args:
        model: a checked model directory.
        threads: of ONNX Runtime; 0 lets it choose one per core.
        device: one of `devices.DEVICES`.

    Raises:
        OptionError: the number of threads is negative, or the device unknown.
        DeviceError: the device is not available.
        ModelError: a graph cannot be loaded.
    """

    def __init__(self, model: ModelDirectory, *, threads: int = 0, device: str = "cpu") -> None:
        if threads < 0:
            raise OptionError(f"threads must be at least 0, got {threads}")
        # On a processor one photograph at a time: the activations of several would not fit into its cache.
        self._at_once = 1 if device == "cpu" else None
        # The mapping must live until all sessions are created.
        weights = np.memmap(model.weights, np.uint8, mode="r")
        self._sessions = {graph: _session(model, graph, weights, threads, device) for graph in GRAPHS}
        self._check_sizes(model)
        # Graphs of earlier exports have a fixed number of grid places.
        places = self._sessions["step"].get_inputs()[1].shape[1]
        self._places = places if isinstance(places, int) else None
        self._folder = model.folder

    def encode(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Encode preprocessed photographs (B, 3, H, W) as grid features (B, L, D)."""
        size = self._at_once or len(images)
        parts = [images[first : first + size] for first in range(0, len(images), size)]
        return np.concatenate([self._run("backbone", {"images": part})[0] for part in parts])

    def start(self, features: NDArray[np.floating[Any]]) -> State:
        """Make the initial state from grid features (B, L, D)."""
        memory, keys, *recurrent = self._run("start", {"features": features.astype(np.float32, copy=False)})
        return State((memory, keys), tuple(recurrent))

    def step(self, tokens: NDArray[np.int64], state: State) -> tuple[NDArray[np.float32], NDArray[np.float32], State]:
        """Decode one time step; see `runtime.decoding.Network`."""
        memory, keys = state.memory
        if self._places is not None and memory.shape[1] != self._places:
            raise RegionError(self._folder, "its graphs cannot look at a part of a photograph: export it anew")
        inputs = {"tokens": tokens, "memory": memory, "keys": keys}
        inputs |= {f"state_{index}": array for index, array in enumerate(state.recurrent)}
        log_probs, attention, *recurrent = self._run("step", inputs)
        return log_probs, attention, State(state.memory, tuple(recurrent))

    def _check_sizes(self, model: ModelDirectory) -> None:
        """Compare the shapes of the graphs' inputs and outputs with the other files."""
        images = self._sessions["backbone"].get_inputs()[0]
        memory, *_ = self._sessions["start"].get_outputs()
        log_probs, *_ = self._sessions["step"].get_outputs()
        rows, columns = model.grid
        for graph, sizes, wanted, file in (
            ("backbone", images.shape[1:], [3] + [model.preprocessing.size] * 2, "preprocessor_config.json"),
            ("step", log_probs.shape[2:], [len(model.vocabulary)], "tokenizer.json"),
            ("start", memory.shape[1:2], [rows * columns], "config.json"),
        ):
            if sizes != wanted:
                raise ModelError(model.graph(graph), f"is made for {sizes}, {file} says {wanted}")

    def _run(self, graph: str, inputs: dict[str, NDArray[Any]]) -> list[Any]:
        outputs: list[Any] = self._sessions[graph].run(None, inputs)
        return outputs


def _session(
    model: ModelDirectory, graph: str, weights: NDArray[np.uint8], threads: int, device: str
) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    # Each graph has threads of its own: idle ones must not spin while another graph computes.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    options.add_external_initializers_from_files_in_memory([f"../{WEIGHTS}"], [weights], [weights.nbytes])
    path = model.graph(graph)
    providers = [provider_of(device)]
    if device != "cpu":
        providers.append(provider_of("cpu"))  # for operators that the device lacks
    try:
        session = ort.InferenceSession(path.read_bytes(), options, providers=providers)
    except Exception as error:  # ONNX Runtime's exceptions have no common base
        raise ModelError(path, f"cannot be loaded by ONNX Runtime ({error})") from error
    check_provider(session, device)
    return session

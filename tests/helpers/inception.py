"""Keras' InceptionV3 with random weights, and these weights in the forms in which InceptionV3's are published."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from helpers.shared import made_once

# This module is read before every test: what takes seconds to import is imported where it is used.
if TYPE_CHECKING:
    import torch


@pytest.fixture(scope="session")
def keras() -> Any:
    os.environ.setdefault("KERAS_BACKEND", "torch")
    return pytest.importorskip("keras", reason="Keras is the second implementation these tests compare with")


@pytest.fixture(scope="session")
def keras_network(keras: Any) -> Any:
    """Keras' InceptionV3 with random weights and statistics that keep activations near 1."""
    network = keras.applications.InceptionV3(weights=None, include_top=False, input_shape=(299, 299, 3))
    random = np.random.default_rng(11)
    for layer in network.layers:
        values = []
        for weight in layer.weights:
            shape, role = tuple(weight.shape), weight.path.rpartition("/")[2]
            if role == "kernel":
                value = random.normal(0, np.sqrt(2 / np.prod(shape[:3])), shape)
            elif role == "moving_variance":
                value = random.uniform(0.5, 1.5, shape)
            else:
                value = random.normal(0, 0.1, shape)
            values.append(value.astype(np.float32))
        layer.set_weights(values)
    return network


@pytest.fixture(scope="session")
def keras_file(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The network's weights in the HDF5 form of Keras 2, in which they are published."""

    def write(folder: Path) -> None:
        network = request.getfixturevalue("keras_network")
        import h5py
        from keras.src.legacy.saving import legacy_h5_format

        folder.mkdir()
        with h5py.File(folder / "notop.h5", "w") as file:
            legacy_h5_format.save_weights_to_hdf5_group(file, network)

    return made_once("keras", write, tmp_path_factory) / "notop.h5"


@pytest.fixture(scope="session")
def inception_state(keras_file: Path) -> "dict[str, torch.Tensor]":
    """The same weights as torchvision publishes them: with both classifiers."""
    import torch

    from captionlens.features.backbones import inception_v3

    tensors = dict(inception_v3.load(keras_file).state_dict())
    tensors |= {"fc.weight": torch.zeros(1000, 2048), "fc.bias": torch.zeros(1000)}
    return tensors | {"AuxLogits.conv0.conv.weight": torch.zeros(128, 768, 1, 1)}

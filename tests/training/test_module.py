"""Validation searches for captions as the exported captioner does."""

from pathlib import Path

import numpy as np
import pytest
import torch

from captionlens.datasets.records import Record
from captionlens.features.store import FeatureStore, StoreIndex, photograph_key
from captionlens.network import CaptioningNetwork
from captionlens.runtime.vocabulary import END, Vocabulary
from captionlens.training.batches import CaptionedPhotographs
from captionlens.training.config import make_config
from captionlens.training.module import CaptioningModule


@pytest.mark.parametrize(("max_words", "longest"), [(50, 30), (8, 8)])
def test_captions_of_validation_are_no_longer_than_those_of_the_captioner(
    max_words: int, longest: int, tmp_path: Path
) -> None:
    image = tmp_path / "one.jpg"
    image.write_bytes(b"x")
    record = Record(image, ("a dog runs",), "val", "one")
    store = FeatureStore.create(tmp_path / "store", StoreIndex("some", "f", 1, 2, 3))
    store.append([photograph_key(record)], np.ones((1, 2, 3), np.float16))
    vocabulary = Vocabulary.build(record.captions)
    config = make_config("tutorial", {"max_words": max_words, "beam": 2})
    network = CaptioningNetwork(config.network_config(vocabulary=len(vocabulary), rows=1, columns=2, channels=3))
    with torch.no_grad():
        network.output_words.bias[END] = -1e4  # a caption ends only where it is cut
    data = CaptionedPhotographs([record], store, vocabulary)
    module = CaptioningModule(network, config, data, data, vocabulary, {"one": [0]}, lambda captions: {"one": 0.0})
    module.on_validation_epoch_start()
    for number, batch in enumerate(module.val_dataloader()):
        module.validation_step(batch, number)
    (caption,) = module.captions
    assert len(caption.split()) == longest
    assert config.decoding.max_words == longest

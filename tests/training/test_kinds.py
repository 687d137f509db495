"""Cells and kinds of attention beyond the tutorial's: exported, and trained by the command."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from captionlens.runtime.captioner import load
from captionlens.training.config import make_config
from helpers.cli import SMALL_CAPTIONER, run_cli
from helpers.small_models import write_small_model
from helpers.tiny_backbone import TinyBackbone

PAPER: dict[str, Any] = make_config("show-attend-tell").network
KINDS: dict[str, dict[str, Any]] = {
    "show-attend-tell": PAPER,
    "hard": PAPER | {"attention_kind": "hard"},
    "sentinel": PAPER | {"sentinel": True},
    "heads of a GRU": {"heads": 2},
    "base": make_config("base").network | {"positions": True, "word_query": True},
}
CASES = [*((kind, "half") for kind in KINDS), ("base", "int8"), ("sentinel", "int8")]


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "weights"), CASES)
def test_exported_networks_do_what_torch_does(kind: str, weights: str, tmp_path: Path) -> None:
    # Compares features, log-probabilities, attention and captions of torch and ONNX Runtime, and raises.
    config = write_small_model(tmp_path / "model", TinyBackbone(), weights=weights, **KINDS[kind])
    step = onnx.load(tmp_path / "model" / "onnx" / "step.onnx", load_external_data=False)
    states = ["state_0", "state_1"] if config.cell == "lstm" else ["state_0"]
    assert [value.name for value in step.graph.input] == ["tokens", "memory", "keys", *states]
    caption = load(tmp_path / "model").caption(np.random.default_rng(0).integers(0, 256, (90, 120, 3), np.uint8))
    assert caption.attention.sum((1, 2)) == pytest.approx(1, abs=1e-4)


def test_show_attend_tell_preset_has_the_papers_choices() -> None:
    config = make_config("show-attend-tell")
    network = config.network_config(vocabulary=5004, rows=14, columns=14, channels=512)
    assert (network.cell, network.attention_kind, network.initial_state) == ("lstm", "soft", "mean")
    assert network.gated_context and network.scalar_gate and network.deep_output
    assert (config.doubly_stochastic, network.dropout, config.batch_captions, config.keep) == (1.0, 0.5, 64, "best")
    hard = make_config("show-attend-tell", {"network.attention_kind": "hard"})
    assert hard.network_config(vocabulary=5004, rows=14, columns=14, channels=512).attention_kind == "hard"


@pytest.mark.slow
def test_hard_attention_is_trained_by_the_command(small_scenes: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    run_cli(
        *("train", small_scenes, "-o", run, "--preset=show-attend-tell", "--precision=32", *SMALL_CAPTIONER),
        *("--set=network.attention_kind=hard", "--set=epochs=2", "--set=learning_rate=2e-3"),
    )
    history = json.loads((run / "summary.json").read_text())["history"]
    assert history[1]["loss"] < history[0]["loss"]
    card = (run / "model" / "README.md").read_text()
    assert "hard additive attention of 64 units, LSTM of" in card
    checkpoint = torch.load(run / "last.ckpt", weights_only=True)
    words = json.loads((run / "model" / "config.json").read_text())["network"]["vocabulary"]
    # The moving averages of words' log-probabilities start from chance and go on from the checkpoint.
    baseline = checkpoint["state_dict"]["baseline"]
    assert baseline.shape == (words,)
    assert baseline[0].item() == pytest.approx(-math.log(words))  # what fills up is never a target
    assert baseline.max() > -math.log(words) / 2

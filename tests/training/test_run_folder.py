"""The kept weights of a run folder: the same error from everything that reads them."""

from collections.abc import Callable
from pathlib import Path

import pytest
import safetensors.torch
import torch

from captionlens.errors import RunError
from captionlens.network import CaptioningNetwork
from captionlens.training.averaging import averaged_weights
from captionlens.training.config import make_config
from captionlens.training.run_folder import DataSettings, RunFolder, kept_weights, start_run
from captionlens.training.starting import begin_from, load_starting_weights
from captionlens.training.tuning import tuned_backbone


def start(run: RunFolder) -> None:
    begin_from(run, run.data, "base", {})


def load(run: RunFolder) -> None:
    sizes = {"vocabulary": 9, "rows": 2, "columns": 2, "channels": 4}
    load_starting_weights(CaptioningNetwork(run.config.network_config(**sizes)), run.path)


def average(run: RunFolder) -> None:
    averaged_weights([run], [1])


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return start_run(tmp_path / "run", DataSettings(("x",)), make_config("base", {"finetune_blocks": 1}))


def test_kept_weights_are_those_that_were_saved(run: RunFolder) -> None:
    saved = {"a": torch.arange(6.0).reshape(2, 3), "tail.b": torch.ones(1)}
    safetensors.torch.save_file(saved, run.path / "best.safetensors")
    kept = kept_weights(run.path)
    assert kept.keys() == saved.keys()
    assert all(torch.equal(kept[name], saved[name]) for name in saved)


@pytest.mark.parametrize("use", [start, load, average, tuned_backbone])
def test_missing_and_damaged_weights_are_named(use: Callable[[RunFolder], object], run: RunFolder) -> None:
    with pytest.raises(RunError, match=r"run: has no best\.safetensors: no epoch was trained to its end"):
        use(run)
    for damaged in (b"", b"cut off" * 99):
        (run.path / "best.safetensors").write_bytes(damaged)
        with pytest.raises(RunError, match=r"best\.safetensors: cannot be read \(.*header"):
            use(run)


@pytest.mark.parametrize(
    ("use", "message"), [(load, "cannot be started from"), (tuned_backbone, "is not of a run with 1 tuned blocks")]
)
def test_weights_of_another_network_are_refused(
    use: Callable[[RunFolder], object], message: str, run: RunFolder
) -> None:
    safetensors.torch.save_file({"other": torch.ones(1)}, run.path / "best.safetensors")
    with pytest.raises(RunError, match=message):
        use(run)

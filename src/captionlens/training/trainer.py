"""Configuration of Lightning's trainer: devices, precision, and silenced messages."""

import logging
import warnings
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.strategies import DDPStrategy

from captionlens.errors import OptionError
from captionlens.features.backbones.base import has_fast_bfloat16
from captionlens.training.config import TrainingConfig
from captionlens.training.distributed import ALONE, Processes


def hush_lightning() -> None:
    """Silence Lightning's advice on loader workers, reading memory-mapped features in this process being faster, and
    PyTorch's compiler, which asks every tensor of the decoder's weights for its gradient."""
    warnings.filterwarnings("ignore", module="lightning")
    warnings.filterwarnings("ignore", message=".*isinstance.treespec.*")
    warnings.filterwarnings("ignore", message="The .grad attribute of a Tensor that is not a leaf")
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)


def make_trainer(
    config: TrainingConfig, kind: str, precision: Any, processes: Processes = ALONE, **others: Any
) -> pl.Trainer:
    """Make the trainer of a run; `others` add callbacks, loggers and further options of Lightning's.

    Args:
        config: of the run.
        kind: "cpu" or "cuda".
        precision: of `choose_precision`.
        processes: of distributed training.
        others: override the options set here.
    """
    options: dict[str, Any] = {
        "accelerator": kind,
        "devices": processes.local_count,
        "num_nodes": processes.count // processes.local_count,
        "strategy": DDPStrategy(gradient_as_bucket_view=True) if processes.count > 1 else "auto",
        "precision": precision,
        "max_epochs": config.epochs,
        "gradient_clip_val": config.gradient_clip,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "num_sanity_val_steps": 0,
        "reload_dataloaders_every_n_epochs": 1,
        "use_distributed_sampler": False,
    }
    return pl.Trainer(**options | others)


def choose_precision(precision: str, kind: str) -> Any:
    """Lightning's name of "auto" (bfloat16 where the processor or GPU has it), "32" or "bf16".

    Raises:
        OptionError: the precision is none of these.
    """
    if precision == "auto":
        fast = torch.cuda.is_bf16_supported() if kind == "cuda" else has_fast_bfloat16()
        return "bf16-mixed" if fast else "32-true"
    choices = {"32": "32-true", "bf16": "bf16-mixed"}
    if precision not in choices:
        raise OptionError(f"precision must be auto, 32 or bf16, got {precision!r}")
    return choices[precision]

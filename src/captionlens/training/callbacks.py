"""Lightning callbacks: progress bars, atomic checkpoints, sample captions, best weights and the loss plot."""

import csv
import json
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import safetensors.torch
from tqdm import tqdm

from captionlens.datasets.records import Record
from captionlens.files import atomic_path, write_bytes, write_text
from captionlens.training.module import CaptioningModule

SAMPLES = 5  # validation photographs of each data set whose captions are shown after each epoch


class Progress(pl.Callback):
    """A progress bar per epoch with loss and captions per second, on a terminal only."""

    def __init__(self, enabled: bool) -> None:
        self.enabled = enabled
        self._bar: Any = None

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Open a new bar."""
        assert isinstance(pl_module, CaptioningModule)
        self._bar = tqdm(
            total=round(pl_module.training_data.captions_per_epoch),
            desc=f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}",
            unit="caption",
            disable=None if self.enabled else True,
        )

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Advance the bar by the batch's captions."""
        self._bar.update(batch.caption_count)
        if batch_idx % 20 == 0 and not self._bar.disable:
            trained = _trained(trainer.callback_metrics, "step")
            self._bar.set_postfix({name: f"{value:.3f}" for name, value in trained.items()})

    def on_validation_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Show on the bar that validation runs."""
        if self._bar is not None and not self._bar.disable:
            self._bar.set_description(f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}, validating")

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Show the epoch's scores."""
        metrics = trainer.callback_metrics
        if self._bar is not None and not self._bar.disable:
            trained = _trained(metrics, "epoch") or _trained(metrics, "step")
            self._bar.set_postfix(
                {name: f"{value:.3f}" for name, value in trained.items()},
                val_loss=f"{float(metrics['val_loss']):.3f}",
                cider=f"{100 * float(metrics['val_cider']):.1f}",
            )

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Close the epoch's bar."""
        self._bar.close()


class Keeper(pl.Callback):
    """Writes history, samples, the best weights and a checkpoint to resume from, after each epoch.

    Files of the run folder: `history.csv`, `samples.jsonl`, `best.safetensors`, `best.json`, `last.ckpt`.
    The checkpoint is written last, so that the other files of its epoch exist already. Of several processes, the first
    writes.

    Args:
        run: the run folder.
        keep: `best`, the epoch with the highest CIDEr-D, or `last`.
        shown: the photographs of `samples.jsonl`, by their numbers in validation.
    """

    def __init__(self, run: Path, keep: str, shown: Mapping[int, Record]) -> None:
        self.run = run
        self.keep = keep
        self.shown = shown
        self.history: list[dict[str, float]] = []
        self.best: dict[str, float] = {}

    def state_dict(self) -> dict[str, Any]:
        """State for the checkpoint."""
        return {"history": self.history, "best": self.best}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the state from the checkpoint."""
        self.history, self.best = state_dict["history"], state_dict["best"]

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the files of the epoch."""
        assert isinstance(pl_module, CaptioningModule)
        first = pl_module.processes.first
        metrics = trainer.callback_metrics
        epoch = trainer.current_epoch + 1
        row = {
            "epoch": epoch,
            **_trained(metrics, "epoch"),
            **_validated(metrics),
        }
        self.history = [*self.history, row]
        if first:
            self._write_history()
            self._write_samples(trainer, pl_module, epoch)
        # The first epoch is the best so far even if its captions score 0.
        if not self.best or self.keep == "last" or row["val_cider"] > self.best["val_cider"]:
            self.best = row
            if first:
                weights = {name: tensor.contiguous() for name, tensor in pl_module.kept.state_dict().items()}
                write_bytes(self.run / "best.safetensors", safetensors.torch.save(weights))
                write_text(self.run / "best.json", json.dumps(row) + "\n")
        checkpoint = self.run / "last.ckpt"
        # Lightning saves a checkpoint collectively: every process calls it, and the first writes.
        with atomic_path(checkpoint) if first else nullcontext(checkpoint) as path:
            trainer.save_checkpoint(path)

    def _write_history(self) -> None:
        with atomic_path(self.run / "history.csv") as path, path.open("w", newline="") as file:
            writer = csv.DictWriter(file, fieldnames=list(self.history[0]))
            writer.writeheader()
            writer.writerows(self.history)

    def _write_samples(self, trainer: pl.Trainer, module: CaptioningModule, epoch: int) -> None:
        shown = [(record.image.name, module.captions[number], record) for number, record in self.shown.items()]
        line = {
            "epoch": epoch,
            "captions": [
                {"photograph": name, "caption": caption, "references": list(record.captions)}
                for name, caption, record in shown
            ],
        }
        path = self.run / "samples.jsonl"
        before = path.read_text().splitlines() if path.exists() else []
        kept = [text for text in before if json.loads(text)["epoch"] < epoch]
        write_text(path, "\n".join([*kept, json.dumps(line, ensure_ascii=False)]) + "\n")
        for logger in trainer.loggers:
            if isinstance(logger, pl.loggers.TensorBoardLogger):
                text = "\n\n".join(f"{name}: {caption}" for name, caption, _ in shown)
                logger.experiment.add_text("captions", text, epoch)


def _trained(metrics: Mapping[str, Any], span: str) -> dict[str, float]:
    """The training metric of a "step" or an "epoch": the loss, or the reward of self-critical training."""
    return {name: float(metrics[f"{name}_{span}"]) for name in ("loss", "reward") if f"{name}_{span}" in metrics}


def _validated(metrics: Mapping[str, Any]) -> dict[str, float]:
    """The figures of validation: loss and CIDEr-D, the means first, then those of each data set."""
    names = sorted((name for name in metrics if name.startswith("val_")), key=lambda name: name.count("_") > 1)
    return {name: float(metrics[name]) for name in names}


def plot_losses(history: list[dict[str, float]], path: Path) -> None:
    """Plot training and validation loss per word, and CIDEr-D, over the epochs.

    Self-critical training has no such training loss; the mean CIDEr-D of the sampled captions is plotted instead.
    """
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt
    from matplotlib.ticker import MaxNLocator

    epochs = [row["epoch"] for row in history]
    figure, axis = plt.subplots(figsize=(7, 4.2), layout="constrained")
    if "loss" in history[0]:
        axis.plot(epochs, [row["loss"] for row in history], "o-", color="#1f77b4", label="training loss")
    axis.plot(epochs, [row["val_loss"] for row in history], "o-", color="#ff7f0e", label="validation loss")
    axis.set(xlabel="epoch", ylabel="cross-entropy a word (nats)")
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.grid(alpha=0.3)
    right = axis.twinx()
    sets = [key.removeprefix("val_cider_") for key in history[0] if key.startswith("val_cider_")]
    if "reward" in history[0]:
        rewards = [100 * row["reward"] for row in history]
        right.plot(epochs, rewards, "s--", color="#1f77b4", label="training reward")
    right.plot(
        epochs,
        [100 * row["val_cider"] for row in history],
        "s--",
        color="#2ca02c",
        label="validation CIDEr-D" + (", mean" if sets else ""),
    )
    for name, style in zip(sets, (":", "--", "-."), strict=False):
        scores = [100 * row[f"val_cider_{name}"] for row in history]
        right.plot(epochs, scores, style, color="#2ca02c", alpha=0.6, label=f"of {name}")
    right.set(ylabel="CIDEr-D (times 100)")
    lines = [*axis.get_lines(), *right.get_lines()]
    axis.legend(lines, [str(line.get_label()) for line in lines], loc="center right")
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=120, format="png")
    plt.close(figure)

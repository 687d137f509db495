"""What a captioner learns in an epoch: ours against the tutorial's in TensorFlow, on the same captions and grids.

Ours is trained as in `training.py`, but on the real grids of a feature store. With `--peer`, an interpreter that has
TensorFlow trains the tutorial's network, its step compiled into a graph, for the same epochs. After each epoch: the
cross-entropy a word in nats, of training while the weights change and of the validation split, and the seconds that
training took.

    python benchmarks/curves.py DATASET --store RUN/features --peer tensorflow-env/bin/python
"""

import tempfile
import time
from pathlib import Path

import lightning.pytorch as pl
import torch
from common import finish, machine, positive, run_peer, table
from job import job_options, prepare, write_for_peer

from captionlens.training.module import CaptioningModule
from captionlens.training.objectives.cross_entropy import CrossEntropy

COLUMNS = {"loss": "training loss", "val_loss": "validation loss", "seconds": "seconds"}


def main() -> None:
    parser = job_options("Losses of each epoch.")
    parser.add_argument("--store", type=Path, required=True, help="a feature store with the grids of the data set")
    parser.add_argument("--epochs", type=positive, default=3, help="default: 3")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        job = prepare(options, Path(folder), options.store)
        ours = Curve()
        job.trainer(ours, options.epochs).fit(job.module())
        peer = None
        if options.peer:
            write_for_peer(job, Path(folder), validation=True)
            arguments = (folder, "--vocabulary", len(job.vocabulary), "--epochs", options.epochs)
            peer = run_peer(options.peer, "tf_tutorial.py", "graph", *arguments)

    ways = {"ours": ours.history} | ({"TensorFlow": peer["history"]} if peer else {})
    headings = [f"{column}, {way}" for column in COLUMNS.values() for way in ways]
    rows = [
        [str(epoch + 1), *(f"{history[epoch][key]:.3f}" for key in COLUMNS for history in ways.values())]
        for epoch in range(options.epochs)
    ]
    print(table(["epoch", *headings], rows))
    finish(
        {
            "benchmark": "curves",
            "machine": machine(),
            "preset": options.preset,
            "captions": job.training.caption_count,
            "ours": ours.history,
            "peer": peer,
        }
    )


class Curve(pl.Callback):
    """The losses after each epoch, in nats a word."""

    def __init__(self) -> None:
        self.history: list[dict[str, float]] = []
        self._began = 0.0

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock."""
        self._began = time.perf_counter()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """The validation loss, and all into the history."""
        seconds = time.perf_counter() - self._began
        assert isinstance(pl_module, CaptioningModule)
        pl_module.eval()
        total = words = 0.0
        with torch.no_grad():
            for batch in pl_module.val_dataloader():
                batch = pl_module.transfer_batch_to_device(batch, pl_module.device, 0)
                teacher = pl_module.kept.teach(batch.features, batch.captions)
                total += float(CrossEntropy().loss(teacher, batch).mean) * len(teacher.targets)
                words += len(teacher.targets)
        pl_module.train()
        row = {
            "epoch": trainer.current_epoch + 1,
            "loss": float(trainer.callback_metrics["loss_epoch"]),
            "val_loss": total / words,
            "seconds": seconds,
        }
        self.history.append(row)


if __name__ == "__main__":
    main()

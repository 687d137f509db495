"""The Lightning module: loss of a batch, optimiser and schedule, and validation by generated captions."""

import copy
import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Subset

from captionlens.export.torch_network import TorchNetwork
from captionlens.network import CaptioningNetwork
from captionlens.runtime.decoding import decode
from captionlens.runtime.vocabulary import Vocabulary
from captionlens.training.batch import Batch
from captionlens.training.batches import CaptionedPhotographs, LengthBatches, training_loader
from captionlens.training.config import SELF_CRITICAL, TrainingConfig
from captionlens.training.distributed import ALONE, Processes
from captionlens.training.objectives import Objective
from captionlens.training.objectives.attention_entropy import AttentionEntropy
from captionlens.training.objectives.attention_supervision import AttentionSupervision
from captionlens.training.objectives.blanking import Blanking
from captionlens.training.objectives.cross_entropy import CrossEntropy
from captionlens.training.objectives.doubly_stochastic import DoublyStochastic
from captionlens.training.objectives.reinforce import Reinforce, update_baseline
from captionlens.training.objectives.self_critical import Rewards, SelfCritical
from captionlens.training.scheduled_sampling import sample_inputs, sampling_probability

VALIDATION_BATCH = 50  # photographs


def objectives_of(config: TrainingConfig, *, hard: bool) -> list[Objective]:
    """Terms that a configuration adds to the loss of teacher forcing, in the order of their addition.

    Args:
        config: with their weights.
        hard: whether the network has hard attention, whose entropy is then rewarded.
    """
    objectives: list[Objective] = []
    if config.doubly_stochastic:
        objectives.append(DoublyStochastic(config.doubly_stochastic))
    entropy = config.attention_entropy - (config.reinforce_entropy if hard else 0)
    if entropy:
        objectives.append(AttentionEntropy(entropy))
    if config.attention_supervision:
        objectives.append(AttentionSupervision(config.attention_supervision))
    return objectives


class CaptioningModule(pl.LightningModule):
    """Trains with the sum of a run's objectives, and validates with generated captions and their CIDEr-D.

    Args:
        network: the network to train.
        config: learning rate, losses, averaging, decoding.
        training: photographs of the training split, with captions and features.
        validation: the same of the validation split.
        vocabulary: of the captions.
        sets: names of the data sets of validation, and the numbers of their photographs in its order.
        score: computes the CIDEr-D of each data set, for captions in the order of `validation`.
        processes: of distributed training.
    """

    baseline: Tensor  # of `reinforce`: the expected log-probability of each word of the vocabulary (V,)

    def __init__(
        self,
        network: CaptioningNetwork,
        config: TrainingConfig,
        training: CaptionedPhotographs,
        validation: CaptionedPhotographs,
        vocabulary: Vocabulary,
        sets: Mapping[str, Sequence[int]],
        score: Callable[[Sequence[str]], Mapping[str, float]],
        processes: Processes = ALONE,
    ) -> None:
        super().__init__()
        self.network = network
        self.averaged = copy.deepcopy(network).requires_grad_(False) if config.average_decay else None
        self.config = config
        self.training_data = training
        self.validation_data = validation
        self.vocabulary = vocabulary
        self.sets = sets
        self.score = score
        self.processes = processes
        hard = network.config.attention_kind == "hard"
        self.cross_entropy = CrossEntropy(config.label_smoothing)
        self.reinforce = Reinforce(config.reinforce_weight) if hard else None
        self.objectives = objectives_of(config, hard=hard)
        self.blanking = Blanking(config.blanking)
        self.self_critical: SelfCritical | None = None  # if set, blanking is the only objective beside it
        if config.objective == SELF_CRITICAL:
            rewards = Rewards(training.views)
            self.self_critical = SelfCritical(rewards, config.samples, config.max_words)
        self.captions: list[str] = []  # of the last validation, in the order of `validation`
        self.seconds = {"training": 0.0, "validation": 0.0}  # spent so far; kept in checkpoints
        self.caption_total = 0  # captions trained on so far
        self._clock = 0.0
        self._losses: list[tuple[float, int]] = []  # sum over words of each validation photograph, and their number
        if hard:
            chance = -math.log(network.config.vocabulary)
            self.register_buffer("baseline", torch.full((network.config.vocabulary,), chance))

    @property
    def kept(self) -> CaptioningNetwork:
        """The network that is validated and exported: the moving average, if there is one."""
        return self.averaged or self.network

    @property
    def _sampled(self) -> int:
        """Captions sampled for each photograph; 0: its own captions are trained on."""
        return 0 if self.self_critical is None else self.self_critical.samples

    # Data

    def train_dataloader(self) -> DataLoader[Batch]:
        """Batches of the current epoch; the trainer calls this every epoch."""
        epoch = self.current_epoch if self._trainer is not None else 0
        self.training_data.begin_epoch(epoch)
        return training_loader(
            self.training_data,
            captions=self.config.batch_captions,
            seed=self.config.seed,
            epoch=epoch,
            sampled=self._sampled,
            processes=self.processes,
        )

    def val_dataloader(self) -> DataLoader[Batch]:
        """Validation photographs in their order; each of N processes takes every Nth."""
        own = Subset(self.validation_data, range(self.processes.rank, len(self.validation_data), self.processes.count))
        return DataLoader(
            own,  # type: ignore[arg-type]  # collate makes batches of the items
            batch_size=VALIDATION_BATCH,
            collate_fn=self.validation_data.collate,
        )

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, dataloader_idx: int) -> Batch:
        """Move all tensors to the device."""
        return batch.to(device)

    # Training

    def configure_optimizers(self) -> Any:
        """Make Adam, with decoupled weight decay if configured, and a schedule per step."""
        config = self.config
        rates = {"": config.learning_rate, "tail.": config.finetune_learning_rate}
        groups: dict[str, list[Tensor]] = {prefix: [] for prefix in rates}
        for name, parameter in self.network.named_parameters():
            groups["tail." if name.startswith("tail.") else ""].append(parameter)
        used = [prefix for prefix, parameters in groups.items() if parameters]
        optimizer = torch.optim.AdamW(
            [{"params": groups[prefix], "lr": rates[prefix]} for prefix in used],
            weight_decay=config.weight_decay,
            fused=True,
        )
        if config.schedule == "constant":
            return optimizer
        schedule: torch.optim.lr_scheduler.LRScheduler
        # Epochs differ by a batch or two if photographs have different numbers of captions. One spare step, since the
        # schedule raises beyond its end.
        total = 1 + sum(
            len(LengthBatches(self.training_data, config.batch_captions, config.seed, epoch, sampled=self._sampled))
            for epoch in range(config.epochs)
        )
        if config.schedule == "linear":
            schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, total_iters=total)
        else:
            schedule = torch.optim.lr_scheduler.OneCycleLR(
                optimizer, [rates[prefix] for prefix in used], total_steps=total, pct_start=0.1, cycle_momentum=False
            )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def configure_gradient_clipping(
        self, optimizer: Any, gradient_clip_val: float | None = None, gradient_clip_algorithm: str | None = None
    ) -> None:
        """Clip the norm of all gradients; Lightning itself does not support it with a fused optimiser."""
        if gradient_clip_val is not None:
            torch.nn.utils.clip_grad_norm_(self.network.parameters(), gradient_clip_val)

    def on_train_epoch_start(self) -> None:
        """Start the clock and seed the random numbers, so that a resumed run draws the same ones."""
        # Each process has its own dropout.
        torch.manual_seed(self.config.seed * 1_000_003 + self.current_epoch + (self.processes.rank << 40))
        self._clock = time.perf_counter()

    def training_step(self, batch: Batch, batch_index: int) -> Tensor:
        """Loss of one batch."""
        rewarded = None if batch.keys[0] in self.training_data.unrewarded else self.self_critical
        loss = self._teacher_forcing(batch) if rewarded is None else self._sampling(batch, rewarded)
        return loss + self.blanking.loss(self.network, batch, self.current_epoch)

    def _teacher_forcing(self, batch: Batch) -> Tensor:
        """Loss of the reference captions; the cross-entropy is logged."""
        teacher = self.network.teach(batch.features, batch.captions, self._inputs(batch))
        loss, cross_entropy, of_words = self.cross_entropy.loss(teacher, batch)
        if self.reinforce is not None:
            loss = loss + self.reinforce.loss(teacher, batch, -of_words, self.baseline)
            if batch.word_share:  # of several processes, the first one's is logged
                update_baseline(self.baseline, teacher.targets, -of_words)
        for objective in self.objectives:
            loss = loss + objective.loss(teacher, batch)
        self.log("loss", cross_entropy, on_step=True, on_epoch=True, batch_size=batch.word_count, sync_dist=True)
        self.caption_total += batch.caption_count
        return loss

    def _inputs(self, batch: Batch) -> Tensor | None:
        """Previous words by scheduled sampling, if it is active in this epoch."""
        probability = sampling_probability(self.config.scheduled_sampling, self.current_epoch, self.config.epochs)
        return sample_inputs(self.network, batch.features, batch.captions, probability) if probability else None

    def _sampling(self, batch: Batch, objective: SelfCritical) -> Tensor:
        """Loss of sampled captions; their mean reward is logged."""
        loss, reward, captions = objective.loss(self.network, batch, self.processes)
        self.log("reward", reward, on_step=True, on_epoch=True, batch_size=captions)
        self.caption_total += captions
        return loss

    def on_train_batch_end(self, outputs: Any, batch: Batch, batch_idx: int) -> None:
        """Update the moving average of the weights."""
        if self.averaged is not None:
            steps = self.global_step
            # Averages of few steps would be dominated by the initial weights.
            decay = min(self.config.average_decay, (1 + steps) / (10 + steps))
            with torch.no_grad():
                torch._foreach_lerp_(list(self.averaged.parameters()), list(self.network.parameters()), 1 - decay)

    # Validation

    def on_validation_epoch_start(self) -> None:
        """Stop the training clock and start that of validation."""
        now = time.perf_counter()
        self.seconds["training"] += now - self._clock
        self._clock = now
        self.captions, self._losses = [], []
        self.kept.eval()

    def validation_step(self, batch: Batch, batch_index: int) -> None:
        """Caption a batch of photographs, and compute the loss of their references."""
        teacher = self.kept.teach(batch.features, batch.captions)
        of_words = CrossEntropy().loss(teacher, batch).of_words
        photographs = torch.arange(len(batch.keys))[:, None].expand(batch.captions.shape[:2])
        of_photograph = teacher.words.of_captions(photographs)  # (N,)
        sums = torch.bincount(of_photograph, of_words.double(), len(batch.keys)).tolist()
        self._losses += zip(sums, torch.bincount(of_photograph, minlength=len(batch.keys)).tolist(), strict=True)
        for hypothesis in decode(TorchNetwork(self.kept), batch.features, self.config.decoding):
            self.captions.append(self.vocabulary.text(self.vocabulary.decode(hypothesis.tokens)))

    def on_validation_epoch_end(self) -> None:
        """Score the captions of each data set, and take the means over the data sets."""
        parts = self.processes.gather((self.captions, self._losses))
        self.captions = [""] * len(self.validation_data)
        losses = [(0.0, 0)] * len(self.validation_data)
        for rank, (captions, of_photographs) in enumerate(parts):
            self.captions[rank :: len(parts)] = captions
            losses[rank :: len(parts)] = of_photographs
        scores = self.score(self.captions)
        figures = {
            "val_loss": {
                name: sum(losses[number][0] for number in numbers) / sum(losses[number][1] for number in numbers)
                for name, numbers in self.sets.items()
            },
            "val_cider": scores,
        }
        for figure, of_sets in figures.items():
            self.log(figure, sum(of_sets.values()) / len(of_sets))
            if len(of_sets) > 1:
                self.log_dict({f"{figure}_{name}": value for name, value in of_sets.items()})
        now = time.perf_counter()
        self.seconds["validation"] += now - self._clock
        self._clock = now

    # Checkpoints

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Save the clocks."""
        checkpoint["captionlens"] = {"seconds": dict(self.seconds), "caption_total": self.caption_total}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore the clocks."""
        self.seconds = dict(checkpoint["captionlens"]["seconds"])
        self.caption_total = checkpoint["captionlens"]["caption_total"]

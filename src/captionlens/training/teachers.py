"""Teachers: trained captioners whose mean word distribution another one learns from, and captions that they add.

Hinton, Vinyals and Dean, "Distilling the Knowledge in a Neural Network", 2015; with captions of the teachers' own as in
Kim and Rush, "Sequence-Level Knowledge Distillation", EMNLP 2016. What the teachers say of the training set is computed
once, into the run folder; it can be killed at any moment, and goes on after the last whole part.
"""

import io
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from captionlens.errors import RunError
from captionlens.export.torch_network import TorchNetwork
from captionlens.features.store import FeatureStore
from captionlens.files import write_bytes
from captionlens.runtime.decoding import DecodingOptions, State, decode
from captionlens.runtime.vocabulary import END, START, Vocabulary
from captionlens.training.batch import CaptionMasses, pad_captions
from captionlens.training.run_export import load_best
from captionlens.training.run_folder import open_run

log = logging.getLogger("captionlens")

KEPT = 16  # words of each distribution that are kept; the mass of the others goes to the true word
PART = 256  # photographs per file
_BATCH = 32  # photographs
_TEMPERATURE = 0.7  # of captions that teachers add: varied, and seldom wrong

View = tuple[str, list[list[int]]]  # the key of a photograph's grid, and its captions from `<start>` to `<end>`


class Ensemble:
    """Captioners as one `runtime.decoding.Network`, whose distribution is the mean of theirs.

    Its features are the keys of photographs' grids: each captioner reads them from its own feature store.

    Args:
        members: captioners of the same vocabulary, and their stores.
    """

    def __init__(self, members: Sequence[tuple[TorchNetwork, FeatureStore]]) -> None:
        self.members = members
        self._sizes: list[tuple[int, int]] = []  # arrays of memory and of recurrent state of each member

    def encode(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Refuse: an ensemble starts from feature stores."""
        raise NotImplementedError

    def start(self, features: Sequence[str]) -> State:
        """Make the initial states of all members for photographs by their keys."""
        states = [network.start(store.read(features)) for network, store in self.members]
        self._sizes = [(len(state.memory), len(state.recurrent)) for state in states]
        return State(
            tuple(array for state in states for array in state.memory),
            tuple(array for state in states for array in state.recurrent),
        )

    def step(self, tokens: NDArray[np.int64], state: State) -> tuple[NDArray[np.float32], NDArray[np.float32], State]:
        """Decode one time step; the attention is the first member's, since grids may differ."""
        logs, attentions, after = [], [], []
        memory, recurrent = iter(state.memory), iter(state.recurrent)
        for (network, _), (memories, states) in zip(self.members, self._sizes, strict=True):
            own = State(tuple(next(memory) for _ in range(memories)), tuple(next(recurrent) for _ in range(states)))
            log_probs, attention, moved = network.step(tokens, own)
            logs.append(log_probs)
            attentions.append(attention)
            after.append(moved)
        mean = np.logaddexp.reduce(np.stack(logs)) - np.float32(np.log(len(logs)))
        return mean, attentions[0], State(state.memory, tuple(array for moved in after for array in moved.recurrent))


class Teachers:
    """Trained captioners that teach another one.

    Args:
        runs: their run folders.
        vocabulary: of the captioner that learns.
        folder: where their words are kept.

    Raises:
        RunError: a run has no kept epoch, or other words.
    """

    def __init__(self, runs: Sequence[Path], vocabulary: Vocabulary, folder: Path) -> None:
        members = []
        for path in runs:
            run = open_run(path)
            network, words, _ = load_best(run)
            if words.tokens != vocabulary.tokens:
                raise RunError(path, "has other words than the run that it is to teach")
            if run.config.finetune_blocks:
                raise RunError(path, "trained blocks of its backbone: its features are in no store")
            members.append((TorchNetwork(network), FeatureStore.open(run.features)))
        self.ensemble = Ensemble(members)
        self.folder = folder

    def captions(self, views: Sequence[View], wanted: int, *, max_words: int, progress: bool) -> list[list[list[int]]]:
        """Sample captions of the teachers for photographs that have fewer than wanted.

        Args:
            views: photographs with their captions.
            wanted: captions of each; those that it has count.
            max_words: longer captions are left out.
            progress: show a bar on a terminal.

        Returns:
            The added captions of each view; none is there twice.
        """
        added: list[list[list[int]]] = []
        for path, part, begin in self._parts("captions", views, progress):
            if not path.exists():
                self._write_captions(path, part, begin, wanted, max_words)
            added += _read_captions(path, part)
        return added

    def masses(self, views: Sequence[View], *, progress: bool) -> dict[str, list[CaptionMasses]]:
        """Compute the teachers' distributions at each word of the captions of each view, by its key."""
        found: dict[str, list[CaptionMasses]] = {}
        for path, part, _ in self._parts("words", views, progress):
            if not path.exists():
                self._write_masses(path, part)
            found.update(_read_masses(path, part))
        return found

    def _parts(self, kind: str, views: Sequence[View], progress: bool) -> Iterator[tuple[Path, Sequence[View], int]]:
        """Yield the file of each part, its photographs and the number of the first; a bar advances by the part."""
        with tqdm(
            total=len(views), desc=f"{kind} of teachers", unit="photo", disable=None if progress else True
        ) as bar:
            for number, begin in enumerate(range(0, len(views), PART)):
                part = views[begin : begin + PART]
                yield self.folder / f"{kind}-{number:05d}.npz", part, begin
                bar.update(len(part))

    def _write_captions(self, path: Path, views: Sequence[View], first: int, wanted: int, max_words: int) -> None:
        added: list[list[list[int]]] = [[] for _ in views]
        lacking = [place for place, (_, captions) in enumerate(views) if len(captions) < wanted]
        for again in range(wanted - min((len(captions) for _, captions in views), default=wanted)):
            lacking = [place for place in lacking if len(views[place][1]) + again < wanted]
            # The seed decides what is drawn; `first` numbers the photographs of all parts.
            options = DecodingOptions(max_words=max_words, temperature=_TEMPERATURE, seed=again)
            for begin in range(0, len(lacking), _BATCH):
                places = lacking[begin : begin + _BATCH]
                keys = [views[place][0] for place in places]
                said = decode(self.ensemble, keys, options, numbers=[first + place for place in places])
                for place, hypothesis in zip(places, said, strict=True):
                    caption = [START, *hypothesis.tokens, END]
                    if hypothesis.complete and hypothesis.tokens and caption not in (*views[place][1], *added[place]):
                        added[place].append(caption)
        counts = np.array([len(captions) for captions in added])
        flat = [caption for captions in added for caption in captions]
        lengths = np.array([len(caption) for caption in flat], np.int64)
        tokens = np.array([token for caption in flat for token in caption], np.int32)
        _write(path, keys=_digest(views), counts=counts, lengths=lengths, tokens=tokens)

    def _write_masses(self, path: Path, views: Sequence[View]) -> None:
        words, masses = [], []
        for begin in range(0, len(views), _BATCH):
            batch = views[begin : begin + _BATCH]
            padded = pad_captions([captions for _, captions in batch])  # (P, C, T)
            mean = self._forced([key for key, _ in batch], padded)  # (P, C, T - 1, V)
            best, chosen = mean.topk(min(KEPT, mean.shape[-1]), dim=-1)
            for row, (_, captions) in enumerate(batch):
                for slot, caption in enumerate(captions):
                    words.append(chosen[row, slot, : len(caption) - 1].numpy().astype(np.int32))
                    masses.append(best[row, slot, : len(caption) - 1].numpy().astype(np.float16))
        _write(path, keys=_digest(views), words=np.concatenate(words), masses=np.concatenate(masses))

    @torch.inference_mode()
    def _forced(self, keys: Sequence[str], captions: NDArray[np.int64]) -> Tensor:
        """Mean probabilities (P, C, T - 1, V) of the words of padded captions (P, C, T), by teacher forcing."""
        tokens = torch.from_numpy(captions)
        total: Tensor | None = None
        for member, store in self.ensemble.members:
            teacher = member.network.teach(torch.from_numpy(store.read(keys)), tokens)
            probabilities = teacher.logits.float().softmax(-1)  # (N, V)
            total = probabilities if total is None else total.add_(probabilities)
        assert total is not None
        padded = teacher.words.padded(total / len(self.ensemble.members))  # (T - 1, P, C, V)
        return padded.permute(1, 2, 0, 3)


def _digest(views: Sequence[View]) -> NDArray[np.str_]:
    """Description of what a part was made for: the keys of its photographs, with the numbers of their captions."""
    return np.array([f"{key} {len(captions)}" for key, captions in views])


def _write(path: Path, **arrays: NDArray[np.generic]) -> None:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]  # numpy's stub takes the names for an option
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, buffer.getvalue())


def _load(path: Path, views: Sequence[View]) -> dict[str, NDArray[np.generic]]:
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as content:
            arrays = {name: content[name] for name in content.files}
    except (OSError, ValueError, KeyError, BadZipFile) as error:
        raise RunError(path, f"is damaged ({error}): delete it, and it is made anew") from error
    if not np.array_equal(arrays["keys"], _digest(views)):
        raise RunError(path, "is of other photographs or captions: delete its folder, and it is made anew")
    return arrays


def _read_captions(path: Path, views: Sequence[View]) -> Iterator[list[list[int]]]:
    arrays = _load(path, views)
    flat = iter(np.split(arrays["tokens"], np.cumsum(arrays["lengths"])[:-1]) if len(arrays["lengths"]) else ())
    for count in arrays["counts"].tolist():
        yield [next(flat).tolist() for _ in range(count)]


def _read_masses(path: Path, views: Sequence[View]) -> Iterator[tuple[str, list[CaptionMasses]]]:
    arrays = _load(path, views)
    words, masses = arrays["words"].astype(np.int32), arrays["masses"].astype(np.float16)
    begin = 0
    for key, captions in views:
        of_view = []
        for caption in captions:
            end = begin + len(caption) - 1
            of_view.append(CaptionMasses(words[begin:end], masses[begin:end]))
            begin = end
        yield key, of_view

"""How fast captions are searched for: ours against a plain loop, one photograph and one word at a time.

Ours is `captionlens.runtime.decoding.decode` over the torch network, with 50 photographs a batch, as in validation, and
with beams of 1 (greedy), 3 and 5. The grids are random, 64 places with 2048 numbers, and so are the weights, with a
vocabulary of 5,004 words. The end is made unlikely, so that every caption goes to `--max-words`.

The peer is the tutorial's loop, in torch and greedy: a network of the same sizes, without what the preset `base` adds
to the tutorial's; for each photograph, for each word, one call of the decoder, which computes the photograph's part of
the attention anew each time. `ratio` compares our beam of 1 with it.

The same search is also timed over an exported network in ONNX Runtime: the captioner that comes along, or `--model`, on
the example photographs again and again. Its captions end where it likes; the table says how long they are.

    python benchmarks/decoding.py --preset base
"""

import argparse
import itertools
from collections.abc import Callable
from functools import partial
from statistics import fmean
from typing import Any

import numpy as np
import torch
from common import EXAMPLES, finish, machine, peak_memory_mib, per_second, positive, seconds_in_turn, table
from torch import Tensor, nn

import captionlens
from captionlens.errors import UnreadableImage
from captionlens.export.torch_network import TorchNetwork
from captionlens.network import PRESETS, CaptioningNetwork, NetworkConfig
from captionlens.runtime.decoding import DecodingOptions, Network, decode
from captionlens.runtime.vocabulary import END, START
from captionlens.training.module import VALIDATION_BATCH

BEAMS = (1, 3, 5)
VOCABULARY = 5004
ROWS, COLUMNS, CHANNELS = 8, 8, 2048  # InceptionV3's grid
UNLIKELY = -1e4  # the bias of the end
LOOP = "one photograph, one word at a time"


def main() -> None:
    parser = argparse.ArgumentParser(description="Captions of grids of features.")
    parser.add_argument("--preset", choices=sorted(PRESETS), default="base", help="the network's sizes (default: base)")
    parser.add_argument("--model", help="a model directory to time in ONNX Runtime (default: the one that comes along)")
    parser.add_argument("--max-words", type=positive, default=20, help="of a caption (default: 20)")
    parser.add_argument(
        "--photographs",
        type=positive,
        default=VALIDATION_BATCH,
        help=f"in the batch (default: {VALIDATION_BATCH}, as in validation)",
    )
    parser.add_argument("--repeats", type=positive, default=5, help="measurements of each (default: 5)")
    options = parser.parse_args()

    torch.manual_seed(0)
    config = NetworkConfig(VOCABULARY, ROWS, COLUMNS, CHANNELS, **PRESETS[options.preset])
    features = torch.rand(options.photographs, config.places, CHANNELS)
    captioner = captionlens.load(options.model)
    exported_features = example_grids(captioner, options.photographs)
    ours, tutorial = our_network(config), tutorial_network(config)

    # Each call captions all photographs and returns how many words each caption has.
    calls: dict[str, Callable[[], list[int]]] = {}
    searches = [DecodingOptions(beam=beam, max_words=options.max_words) for beam in BEAMS]
    for how in searches:
        calls[f"torch, beam {how.beam}"] = partial(search, ours, features, how)
    calls[LOOP] = partial(write, tutorial, features, options.max_words)
    for how in searches:
        calls[f"ONNX Runtime, beam {how.beam}"] = partial(search, captioner.network, exported_features, how)
    times = seconds_in_turn(calls, options.repeats)
    results: dict[str, dict[str, Any]] = {
        name: per_second("captions", options.photographs, times[name]) | {"words_per_caption": fmean(call())}
        for name, call in calls.items()
    }

    print(
        f"preset {options.preset}; ONNX Runtime: {captioner.name}; {options.photographs} photographs a batch; "
        f"medians of {options.repeats}"
    )
    rows = [[name, row["captions_per_second"], row["words_per_caption"]] for name, row in results.items()]
    print(table(["", "captions/s", "words a caption"], rows))
    peer = results[LOOP]
    finish(
        {
            "benchmark": "decoding",
            "machine": machine(),
            "preset": options.preset,
            "photographs": options.photographs,
            "max_words": options.max_words,
            "ours": {f"beam_{beam}": results[f"torch, beam {beam}"] for beam in BEAMS},
            "exported_model": captioner.name,
            "exported": {f"beam_{beam}": results[f"ONNX Runtime, beam {beam}"] for beam in BEAMS},
            "peer": peer,
            "ratio": results["torch, beam 1"]["captions_per_second"] / peer["captions_per_second"],
            "peak_memory_mib": peak_memory_mib(),
        }
    )


def example_grids(captioner: captionlens.Captioner, photographs: int) -> np.ndarray:
    """Grids (B, L, D) of the example photographs, as often as they must be repeated."""
    found = []
    for grid in captioner.encode_many(sorted(EXAMPLES.glob("*.jpg"))):
        if isinstance(grid, UnreadableImage):
            raise grid
        found.append(grid)
    return np.stack(list(itertools.islice(itertools.cycle(found), photographs)))


def our_network(config: NetworkConfig) -> TorchNetwork:
    """Our network with random weights."""
    network = CaptioningNetwork(config).eval()
    network.output_words.bias.data[END] = UNLIKELY
    return TorchNetwork(network)


def search(network: Network, features: Any, options: DecodingOptions) -> list[int]:
    """Our way: the words of each photograph's caption."""
    return [len(hypothesis.tokens) for hypothesis in decode(network, features, options)]


class TutorialNetwork(nn.Module):
    """The tutorial's encoder, attention and decoder, with the sizes of `config`."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.units = config.units
        self.encoder = nn.Linear(config.channels, config.memory)
        self.embedding = nn.Embedding(config.vocabulary, config.embedding)
        self.memory_layer = nn.Linear(config.memory, config.attention)
        self.query_layer = nn.Linear(config.units, config.attention)
        self.score_layer = nn.Linear(config.attention, 1)
        self.gru = nn.GRU(config.memory + config.embedding, config.units, batch_first=True)
        self.hidden_layer = nn.Linear(config.units, config.units)
        self.output_layer = nn.Linear(config.units, config.vocabulary)

    def encode(self, grids: Tensor) -> Tensor:
        """Grids (B, L, D) to memory (B, L, M)."""
        return torch.relu(self.encoder(grids))

    def forward(self, tokens: Tensor, memory: Tensor, state: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Words before (B, 1) and state (1, B, H) to logits (B, V), attention (B, L, 1) and the next state."""
        query = self.query_layer(state[0])[:, None]  # (B, 1, A)
        scores = self.score_layer(torch.tanh(self.memory_layer(memory) + query))  # (B, L, 1)
        attention = scores.softmax(1)
        context = (attention * memory).sum(1, keepdim=True)  # (B, 1, M)
        output, state = self.gru(torch.cat([context, self.embedding(tokens)], -1), state)
        return self.output_layer(self.hidden_layer(output[:, 0])), attention, state


def tutorial_network(config: NetworkConfig) -> TutorialNetwork:
    """The tutorial's network with random weights."""
    network = TutorialNetwork(config).eval()
    network.output_layer.bias.data[END] = UNLIKELY
    return network


@torch.inference_mode()
def write(network: TutorialNetwork, grids: Tensor, max_words: int) -> list[int]:
    """The tutorial's way: the words of each photograph's caption, greedily."""
    lengths = []
    for grid in grids:
        memory = network.encode(grid[None])
        state = torch.zeros(1, 1, network.units)
        words: list[int] = []
        maps: list[np.ndarray] = []
        token = START
        while len(words) < max_words:
            logits, attention, state = network(torch.tensor([[token]]), memory, state)
            maps.append(attention.flatten().numpy())
            token = int(logits.argmax())
            if token == END:
                break
            words.append(token)
        lengths.append(len(words))
    return lengths


if __name__ == "__main__":
    main()

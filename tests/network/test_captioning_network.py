"""Teacher forcing of each kind of network against the network word by word, and in half precision."""

from typing import Any

import pytest
import torch
from torch import Tensor

from captionlens.network import CaptioningNetwork, NetworkConfig

BASE = {"initial_state": "mean", "gated_context": True, "deep_output": True}
PAPER = BASE | {"scalar_gate": True, "cell": "lstm"}
KINDS: dict[str, dict[str, Any]] = {
    "tutorial": {},
    "base": BASE,
    "tutorial with word query": {"word_query": True},
    "show-attend-tell": PAPER,
    "zero LSTM": {"cell": "lstm"},
    "hard": PAPER | {"attention_kind": "hard"},
    "hard GRU": {"attention_kind": "hard", "word_query": True},
    "sentinel": PAPER | {"sentinel": True, "word_query": True},
    "sentinel of a GRU": BASE | {"sentinel": True},
    "heads": PAPER | {"heads": 4},
    "heads of a GRU": {"heads": 2, "word_query": True},
}


def network(kind: str, **changes: Any) -> CaptioningNetwork:
    torch.manual_seed(0)
    sizes = {"memory": 24, "embedding": 16, "units": 16, "attention": 32}
    return CaptioningNetwork(NetworkConfig(30, 3, 3, 20, **KINDS[kind] | sizes | changes))


def batch() -> tuple[Tensor, Tensor]:
    """Features of 3 photographs, and captions of which one photograph has fewer."""
    torch.manual_seed(1)
    captions = torch.randint(4, 30, (3, 2, 8))
    for row, (first, second) in enumerate([(8, 5), (6, 6), (4, 0)]):
        captions[row, 0, first:] = 0
        captions[row, 1, second:] = 0
    return torch.rand(3, 9, 20), captions


@pytest.mark.parametrize("kind", KINDS)
def test_teaching_is_stepping_word_by_word(kind: str) -> None:
    model = network(kind).eval()
    features, captions = batch()
    with torch.no_grad():
        teacher = model.teach(features, captions)
        memory, keys, *state = model.start(features)
        state = [part.expand(-1, 2, -1) for part in state]
        sums = torch.zeros(3, 2, 9)
        expected, targets = [], []
        for time in range(7):
            log_probs, alpha, *state = model.step(captions[:, :, time], memory, keys, *state)
            torch.testing.assert_close(alpha.sum(-1), torch.ones(3, 2))
            there = captions[:, :, time + 1] != 0
            sums += alpha * there[..., None]
            expected.append(log_probs[there])
            targets.append(captions[:, :, time + 1][there])
    torch.testing.assert_close(teacher.logits.log_softmax(-1), torch.cat(expected), rtol=0, atol=1e-5)
    torch.testing.assert_close(teacher.attention_sums, sums, rtol=0, atol=1e-5)
    assert teacher.targets.tolist() == torch.cat(targets).tolist()
    assert teacher.present.tolist() == [[True, True], [True, True], [True, False]]


@pytest.mark.parametrize("kind", [kind for kind in KINDS if not kind.startswith("hard")])
def test_half_precision_keeps_the_loss_and_the_direction_of_the_gradient(kind: str) -> None:
    model = network(kind)
    features, captions = batch()
    losses, gradients = [], []
    for enabled in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            teacher = model.teach(features, captions)
            logits = teacher.logits
        value = torch.nn.functional.cross_entropy(logits.float(), teacher.targets)
        value = value + (1 - teacher.attention_sums).square().mean()
        model.zero_grad()
        value.backward()
        losses.append(value.item())
        gradients.append(torch.cat([weight.grad.flatten() for weight in model.parameters()]))  # type: ignore[union-attr]
    # bfloat16 has 8 bits: each product is right to 2^-9, and what is wrong averages out in sums.
    assert losses[1] == pytest.approx(losses[0], rel=2**-8)
    assert torch.cosine_similarity(gradients[0], gradients[1], dim=0) > 1 - 2**-9

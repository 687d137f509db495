"""What training asks of the attention: its entropy, the doubly stochastic regulariser, supervision by boxes."""

import math
from dataclasses import replace

import pytest
import torch

from captionlens.network import Teacher
from captionlens.network.smoothed_cross_entropy import SoftTargets
from captionlens.network.words import Words
from captionlens.training.config import make_config
from captionlens.training.module import objectives_of
from captionlens.training.objectives.attention_entropy import AttentionEntropy
from captionlens.training.objectives.attention_supervision import AttentionSupervision
from captionlens.training.objectives.cross_entropy import CrossEntropy
from captionlens.training.objectives.doubly_stochastic import DoublyStochastic
from helpers.training import batch_of, hard_network

CAPTIONS = torch.tensor([[[1, 1], [1, 4], [0, 0]]])  # two captions of one word each, and an empty slot beside them
BATCH = batch_of(CAPTIONS)


def teacher(attention: list[list[float]]) -> Teacher:
    """Of CAPTIONS, with this attention (2, L)."""
    weights = torch.tensor(attention, dtype=torch.float64, requires_grad=True)  # (2, L)
    sums = torch.cat([weights, torch.zeros_like(weights[:1])])[None]  # (1, 3, L)
    present = torch.tensor([[True, True, False]])
    layer = torch.nn.Linear(3, 7, bias=True, dtype=torch.float64)
    torch.nn.init.zeros_(layer.bias)
    return Teacher(
        torch.zeros(2, 3, dtype=torch.float64),
        layer,
        torch.tensor([1, 4]),
        weights,
        sums,
        present,
        Words.of(torch.tensor([[1, 1, 0]])),
    )


def test_cross_entropy_is_that_of_chance_where_nothing_is_known() -> None:
    loss, mean, of_words = CrossEntropy(label_smoothing=0.1).loss(teacher([[0.5, 0.5], [1.0, 0.0]]), BATCH)
    assert loss.item() == pytest.approx(math.log(7))
    assert mean.item() == pytest.approx(math.log(7))
    assert of_words.tolist() == pytest.approx([math.log(7)] * 2)


def test_entropy_of_the_attention_is_in_nats_and_its_gradient_sharpens() -> None:
    objective = AttentionEntropy(0.5)
    taught = teacher([[0.25, 0.25, 0.25, 0.25], [1.0, 0.0, 0.0, 0.0]])
    assert objective.loss(taught, BATCH).item() == pytest.approx(0.5 * math.log(4) / 2)
    taught = teacher([[0.4, 0.2, 0.2, 0.2], [0.7, 0.1, 0.1, 0.1]])
    (gradient,) = torch.autograd.grad(objective.loss(taught, BATCH), taught.attention)
    assert (gradient[:, 0] < gradient[:, 1]).all()  # the strongest place gains at the others' cost
    weights = torch.tensor([[0.0, -200.0], [300.0, 0.0]]).requires_grad_()
    alpha = weights.softmax(-1)  # exactly 0 and 1
    taught = replace(taught, attention=alpha)
    (gradient,) = torch.autograd.grad(objective.loss(taught, BATCH), weights)
    assert (gradient == 0).all()


def test_entropy_of_hard_attention_is_wished_for() -> None:
    network = hard_network()
    captions = torch.tensor([[[1, 4, 2]]])
    taught = network.teach(torch.rand(1, 3, 5), captions)
    settings = make_config("tutorial", {"attention_entropy": 0.1, "reinforce_entropy": 0.6})
    (objective,) = objectives_of(settings, hard=True)
    entropy = torch.distributions.Categorical(taught.attention).entropy().mean()
    torch.testing.assert_close(objective.loss(taught, batch_of(captions)), -0.5 * entropy)
    assert objectives_of(settings, hard=False) == [AttentionEntropy(0.1)]
    assert objectives_of(make_config("tutorial"), hard=False) == []


def test_doubly_stochastic_loss_is_that_of_the_captions_that_are_there() -> None:
    loss = DoublyStochastic(2.0).loss(teacher([[0.5, 0.5], [1.0, 0.0]]), BATCH)
    # ((1/2)^2 + (1/2)^2) / 2 and (0 + 1) / 2, their mean, twice.
    assert loss.item() == pytest.approx(2 * (0.25 + 0.5) / 2)


def test_supervision_is_the_log_of_the_attention_in_the_boxes_of_words_that_have_some() -> None:
    taught = teacher([[0.5, 0.3, 0.1, 0.1], [0.25, 0.25, 0.25, 0.25]])
    # Two captions with one word each and an empty slot (1, 3, T): the second word belongs to no phrase.
    phrases = torch.tensor([[[-1, 1, -1], [-1, -1, -1], [-1, -1, -1]]])
    coverages = torch.tensor([[1.0, 1.0, 1.0, 1.0], [0.5, 1.0, 0.0, 0.0]], dtype=torch.float64)
    loss = AttentionSupervision(0.3).loss(taught, batch_of(CAPTIONS, phrases=phrases, coverages=coverages))
    assert loss.item() == pytest.approx(-0.3 * math.log(0.5 * 0.5 + 0.3) / 2)
    (gradient,) = torch.autograd.grad(loss, taught.attention)
    assert gradient[0].argmin() == 1  # where the box covers most, attention is wanted most
    assert (gradient[1] == 0).all()
    assert AttentionSupervision(0.3).loss(taught, BATCH).item() == 0


def test_supervision_pulls_attention_that_misses_its_box() -> None:
    scores = torch.tensor([[0.0, 40.0], [0.0, 0.0]], dtype=torch.float64).requires_grad_()
    taught = replace(teacher([[0.5, 0.5], [0.5, 0.5]]), attention=scores.softmax(-1))
    phrases = torch.tensor([[[-1, 0], [-1, -1], [-1, -1]]])
    batch = batch_of(CAPTIONS, phrases=phrases, coverages=torch.tensor([[1.0, 0.0]]))
    assert math.isfinite(AttentionSupervision(1.0).loss(taught, batch).item())
    taught = replace(taught, attention=(scores / 10).softmax(-1))
    (gradient,) = torch.autograd.grad(AttentionSupervision(1.0).loss(taught, batch), scores)
    assert gradient[0, 0] < 0 < gradient[0, 1]


def test_terms_count_as_much_as_the_part_of_a_batch_that_they_are_of() -> None:
    taught = teacher([[0.6, 0.4], [0.9, 0.1]])
    phrases, coverages = torch.tensor([[[-1, 0], [-1, -1], [-1, -1]]]), torch.tensor([[1.0, 0.0]])
    whole = batch_of(CAPTIONS, phrases=phrases, coverages=coverages)
    part = replace(whole, caption_share=0.5, word_share=0.25)
    for objective, share in (
        (DoublyStochastic(2.0), 0.5),
        (AttentionEntropy(0.5), 0.25),
        (AttentionSupervision(0.3), 0.25),
    ):
        assert objective.loss(taught, part).item() == pytest.approx(share * objective.loss(taught, whole).item())
    ours, theirs = CrossEntropy().loss(taught, part), CrossEntropy().loss(taught, whole)
    assert (ours.total.item(), ours.mean.item()) == pytest.approx((theirs.total.item() / 4, theirs.mean.item() / 4))
    assert ours.of_words.equal(theirs.of_words)


def test_cross_entropy_with_weights_and_teachers() -> None:
    """Word by word: the weight of its caption times the cross-entropy of true word and teachers' words together."""
    network = hard_network().eval()
    captions = torch.tensor([[[1, 3, 4, 2], [1, 5, 2, 0]], [[1, 4, 2, 0], [0, 0, 0, 0]]])
    taught = network.teach(torch.randn(2, 3, 5), captions)
    weights = torch.tensor([[0.5, 2.0], [1.5, 9.0]])  # the last is of no caption
    words = torch.randint(6, (2, 2, 4, 2))
    masses = torch.rand(2, 2, 4, 2) / 4
    batch = replace(batch_of(captions), weights=weights, soft=SoftTargets(words, masses))
    loss = CrossEntropy(label_smoothing=0.1).loss(taught, batch).total
    log_probs = taught.logits.detach().log_softmax(-1)
    # The row of each word by photograph, caption and place: `teach` orders words by time, photograph and slot.
    rows: dict[tuple[int, int, int], int] = {}
    for place in range(1, 4):
        for photograph, slot in ((0, 0), (0, 1), (1, 0)):
            if captions[photograph, slot, place]:
                rows[photograph, slot, place] = len(rows)
    expected = 0.0
    for (photograph, slot, place), row in rows.items():
        mass = masses[photograph, slot, place]
        of_true = 0.9 * log_probs[row, captions[photograph, slot, place]] + 0.1 * log_probs[row].mean()
        of_teachers = (mass * log_probs[row, words[photograph, slot, place]]).sum()
        expected -= float(weights[photograph, slot] * ((1 - mass.sum()) * of_true + of_teachers))
    assert loss.item() == pytest.approx(expected / len(rows), rel=1e-5)

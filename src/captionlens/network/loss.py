"""The loss of teacher forcing; cross-entropy over a vocabulary with label smoothing and its gradient in one pass."""

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import cross_entropy, linear

from captionlens.network import compiled_loops, cross_entropy_kernels
from captionlens.network.captioning_network import Teacher


class CaptionLoss(NamedTuple):
    """What `caption_loss` gives: `total` is minimised; `cross_entropy`, the mean over words, is reported, without
    gradient; `of_words` (N,) is the cross-entropy of each word in nats, without gradient."""

    total: Tensor
    cross_entropy: Tensor
    of_words: Tensor


def caption_loss(
    teacher: Teacher,
    *,
    label_smoothing: float = 0.0,
    doubly_stochastic: float = 0.0,
    attention_entropy: float = 0.0,
    attention_supervision: float = 0.0,
    phrases: Tensor | None = None,
    coverages: Tensor | None = None,
    reinforce_weight: float = 0.0,
    reinforce_entropy: float = 0.0,
    baseline: Tensor | float = 0.0,
    caption_share: float = 1.0,
    word_share: float = 1.0,
) -> CaptionLoss:
    """The loss that is minimised, and the plain cross-entropy, both per word.

    The regulariser of "Show, Attend and Tell" (equation 14) asks that every place gets one word's worth of
    attention over a caption: the mean over captions of sum_i (1 - sum_t alpha_ti)^2 / L. The entropy of a word's
    attention, - sum_i alpha_i log alpha_i in nats, is the smaller the fewer places it looks at. Supervision adds
    - log of the share of a word's attention inside the boxes of its phrase, of words that have boxes, divided by all
    words. (Liu, Mao, Sha and Yuille, "Attention Correctness in Neural Image Captioning", AAAI 2017, ask for attention
    spread evenly over the boxes; this leaves it where in them.)

    Hard attention has `reinforce_weight` and `reinforce_entropy`, the paper's lambda_r and lambda_e: see `reinforce`,
    whose `baseline` it takes. The second is a wish for many places, and soft attention has none of both.

    With the shares of a `Batch`, the mean over all processes is the loss of the whole batch.
    """
    layer = teacher.output_words
    loss, cross_entropy, word_losses = _cross_entropies(
        teacher.hidden, layer.weight, layer.bias, teacher.targets, label_smoothing
    )
    if teacher.chosen is not None:
        if reinforce_weight:
            loss = loss + reinforce_weight * reinforce(teacher, -word_losses, baseline)
        attention_entropy -= reinforce_entropy
    if word_share != 1:
        loss, cross_entropy = word_share * loss, word_share * cross_entropy
    if doubly_stochastic:
        unevenness = (1 - teacher.attention_sums).square().mean(-1)  # (P, C)
        loss = loss + caption_share * doubly_stochastic * unevenness[teacher.present].mean()
    if attention_entropy:
        # The entropy's slope at 0 is infinite, and infinity times the softmax's 0 would be no number.
        alpha = teacher.attention.clamp(min=1e-30)  # (N, L)
        entropies = -(alpha * alpha.log()).sum(-1)  # (N,)
        loss = loss + word_share * attention_entropy * entropies.mean()
    if attention_supervision and phrases is not None and coverages is not None:
        strayed = _outside(teacher, phrases, coverages)
        loss = loss + word_share * attention_supervision * strayed.sum() / len(teacher.targets)
    return CaptionLoss(loss, cross_entropy, word_losses)


def _outside(teacher: Teacher, phrases: Tensor, coverages: Tensor) -> Tensor:
    """- log of the attention inside the boxes, of each word that has some.

    Args:
        teacher: of the batch.
        phrases: of each token the row of `coverages` that is its phrase's, or -1 (P, C, T).
        coverages: how much of each place the boxes of a phrase cover, from 0 to 1 (n, L).
    """
    of_word = teacher.words.of_tokens(phrases)  # (N,)
    boxed = of_word >= 0
    inside = (teacher.attention[boxed] * coverages[of_word[boxed]]).sum(-1)
    return -inside.clamp(min=1e-6).log()


def reinforce(teacher: Teacher, log_probs: Tensor, baseline: Tensor | float = 0.0) -> Tensor:
    """What gives hard attention its gradient: that of the expected mean of `-log_probs`, estimated from one draw.

    "Show, Attend and Tell", equation (12), after Williams, "Simple Statistical Gradient-following Algorithms for
    Connectionist Reinforcement Learning", 1992: the mean over words of (baseline - reward) log alpha of the place that
    was drawn, zero for words that saw the expected place. The reward of a place is the log-probability of its word and
    of all that follow in the caption; what came before does not depend on it, and would only make the estimate less
    certain. The value itself means nothing.

    Args:
        teacher: with `words` and `chosen`.
        log_probs: of the N words, in nats (N,).
        baseline: what the log-probability of a word, or of each word (N,), is expected to be. It may depend on the
            word: that does not depend on the place that was drawn.
    """
    words, chosen = teacher.words, teacher.chosen
    if chosen is None:
        raise ValueError("teacher forcing drew no places")
    rewards = words.padded((log_probs.detach() - baseline)[:, None])  # (T, P, C, 1)
    rewards = rewards.flip(0).cumsum(0).flip(0).flatten()[words.flat]  # (N,)
    alpha = teacher.attention.gather(1, chosen.clamp(min=0)[:, None]).squeeze(1)  # (N,)
    return -(rewards * alpha.clamp(min=1e-30).log())[chosen >= 0].sum() / len(chosen)


def follow(baseline: Tensor, targets: Tensor, log_probs: Tensor) -> None:
    """Move the baseline of `reinforce` a tenth of the way towards each word's log-probability, as one after the other.

    A moving average, as in "Show, Attend and Tell", section 4.1, but of each word of the vocabulary: most of what
    makes a caption likelier than another are its words, "a" or "saxophone", and not where was looked for them.

    Args:
        baseline: (V,), changed.
        targets: words (N,).
        log_probs: theirs, in nats (N,).
    """
    counts = torch.bincount(targets, minlength=len(baseline))  # (V,)
    means = torch.zeros_like(baseline).index_add_(0, targets, log_probs.detach()) / counts.clamp(min=1)
    baseline.lerp_(means, 1 - 0.9**counts)


def smoothed_cross_entropy(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor,
    targets: Tensor,
    smoothing: float,
    importance: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Mean over N words of the label-smoothed cross-entropy of a linear layer's logits, and of the plain one.

    Equal to the layer and two calls of `torch.nn.functional.cross_entropy`, which take several passes over (N, V)
    each; here the gradient takes the place of the logits while they are read. The plain one has no gradient.
    Label smoothing: Szegedy et al., "Rethinking the Inception Architecture", CVPR 2016, section 7.

    Args:
        hidden: what the layer reads (R, X); rows from N to R have no target and no part in the loss.
        weight: of the layer (V, X).
        bias: of the layer (V,).
        targets: (N,) numbers of the right words.
        smoothing: share of a target spread evenly over all V words, from 0 to 1.
        importance: of each word (N,), of any sign: multiplies its part in the first mean, which still divides by N.
            None: 1 for all.
    """
    smoothed, plain, _ = _cross_entropies(hidden, weight, bias, targets, smoothing, importance)
    return smoothed, plain


def _cross_entropies(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor,
    targets: Tensor,
    smoothing: float,
    importance: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """As `smoothed_cross_entropy`, and the plain one of each word (N,), without gradient too."""
    kind = hidden.device.type
    product = compiled_loops.product_type(hidden)
    if not compiled_loops.serve(hidden):
        logits = linear(hidden[: len(targets)], weight, bias)
        with torch.autocast(kind, enabled=False):
            logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
            words = cross_entropy(logits.detach(), targets, reduction="none")
            if importance is None:
                return cross_entropy(logits, targets, label_smoothing=smoothing), words.mean(), words
            losses = cross_entropy(logits, targets, label_smoothing=smoothing, reduction="none")
            return (importance.to(losses.dtype) * losses).mean(), words.mean(), words
    with torch.autocast(kind, enabled=False):
        results: tuple[Tensor, Tensor, Tensor] = _CrossEntropy.apply(  # type: ignore[no-untyped-call]
            product, hidden, weight, bias, targets, smoothing, importance
        )
    return results


class _CrossEntropy(torch.autograd.Function):
    """See `smoothed_cross_entropy`. Type `product` is that of the products, sums are in single precision at least."""

    @staticmethod
    def forward(
        ctx: Any,
        product: torch.dtype,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor,
        targets: Tensor,
        smoothing: float,
        importance: Tensor | None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        wide = torch.promote_types(product, torch.float32)
        ctx.types = hidden.dtype, weight.dtype, bias.dtype
        hidden, weight = hidden.detach().to(product), weight.detach().to(product)
        logits = torch.mm(hidden, weight.t())  # (R, V)
        losses = logits.new_empty(len(targets), 2, dtype=wide)
        numbers = logits.view(torch.uint16) if product == torch.bfloat16 else logits  # NumPy has no bfloat16
        bias_ = bias.detach().to(wide).numpy()
        factors = losses.new_empty(0) if importance is None else importance.detach().to(wide)
        cross_entropy_kernels.cross_entropy(
            numbers.numpy(), bias_, targets.numpy(), factors.numpy(), bias_.dtype.type(smoothing), losses.numpy()
        )
        ctx.save_for_backward(hidden, weight, logits)  # the gradient by now
        right, even = losses.mean(0)
        of_words = losses[:, 0]
        ctx.mark_non_differentiable(right, of_words)
        if importance is None:
            return (1 - smoothing) * right + smoothing * even, right, of_words
        weighted = factors @ losses / len(targets)  # (2,)
        return (1 - smoothing) * weighted[0] + smoothing * weighted[1], right, of_words

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_loss: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        hidden, weight, gradient = ctx.saved_tensors
        if d_loss != 1:  # nearly always 1: a pass over (R, V) saved
            gradient = gradient * d_loss.to(gradient.dtype)
        gradients = (
            torch.mm(gradient, weight),
            torch.mm(gradient.t(), hidden),
            torch.mm(gradient.new_ones(8, len(gradient)), gradient)[0],  # a sum over rows, several times faster
        )
        return None, *(value.to(kind) for value, kind in zip(gradients, ctx.types, strict=True)), None, None, None

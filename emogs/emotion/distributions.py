"""Label distributions: many annotators' votes as probabilities, how far to trust them, and training with them.

Votes are evidence of what people see. A probability is not an intensity: 0.5 happy may be a faint smile or a dispute.
As a code it shows the mean of what the annotators said. Sources: FER+ (Barsoum et al. 2016) for training on vote
distributions; temperature after Hinton, Vinyals & Dean 2015; Shannon's entropy.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from .checks import check_floats, check_number, check_range
from .labels import LabelSet, class_codes, label_set
from .tables import EMOTIONS


class LabelDistribution(NamedTuple):
    """What annotators say of faces."""

    probabilities: Tensor
    """[..., C] over the data set's classes; uniform where nobody named one."""
    reliability: Tensor
    """[...] in [0, 1]: the share of votes for any emotion, times their agreement; 0 where nobody named one."""


def distribution_from_votes(votes: Tensor, dataset: str | LabelSet = "fer+") -> LabelDistribution:
    """Probabilities and reliability of votes: `p = v / sum v`, `reliability = (share of v) * (1 - H(p) / ln C)`.

    Lost: how many voted. For the votes of FER+ an image most call unknown, or no face, gets little weight.

    Args:
        votes: [..., C] counts, whole numbers or floats, or [..., C + N] with the N columns that stand for no emotion
            (FER+: unknown, NF).
        dataset: whose classes the columns are, in its order.
    Returns:
        LabelDistribution.
    Raises:
        ValueError: a vote is negative or not finite, or the columns are not the data set's.

    >>> votes = torch.tensor([[0.0, 9, 0, 0, 0, 0, 0, 0, 1, 0], [0, 0, 0, 0, 0, 0, 0, 0, 0, 10]])
    >>> distribution_from_votes(votes).reliability
    tensor([0.9000, 0.0000])
    """
    known = label_set(dataset)
    count = len(known.ids)
    if isinstance(votes, Tensor) and not votes.is_floating_point() and not votes.is_complex():
        votes = votes.float()
    check_floats("votes", votes, (count, count + len(known.no_emotion)))
    _check_shares("votes", "counts", votes)
    named = votes[..., :count]
    usable, every = named.sum(-1, keepdim=True), votes.sum(-1, keepdim=True)
    tiny = torch.finfo(votes.dtype).tiny
    probabilities = torch.where(usable > 0, named / usable.clamp_min(tiny), 1 / count)
    share = (usable / every.clamp_min(tiny))[..., 0]
    return LabelDistribution(probabilities, share * agreement(probabilities))


def agreement(probabilities: Tensor) -> Tensor:
    """How far annotators agree: `1 - H(p) / ln C`, 1 where all do, 0 where nobody does.

    Args:
        probabilities: [..., C] in [0, 1]; counts of votes are for `distribution_from_votes`.
    Returns:
        [...] in [0, 1]; differentiable.
    Raises:
        ValueError: a number is outside [0, 1], or not finite.
    """
    _check_classes(probabilities)
    check_range("probabilities", probabilities, 0, 1)
    entropy = torch.special.entr(probabilities.clamp_min(0)).sum(-1)
    return (1 - entropy / math.log(max(2, probabilities.shape[-1]))).clamp(0, 1)


def temper(probabilities: Tensor, temperature: float) -> Tensor:
    """Probabilities `p^(1/t) / sum p^(1/t)`: sharper below temperature 1, flatter above; what is impossible stays so.

    Lost: nothing of probabilities that sum to 1; `temper(., 1 / t)` undoes it.

    Args:
        probabilities: [..., C], not negative. A row of zeros, as `remap_probabilities` gives where the target has none
            of the classes, stays zeros.
        temperature: above 0.
    Returns:
        [..., C], other rows summing to 1; differentiable.
    Raises:
        ValueError: a probability is negative or not finite, or the temperature is not above 0.
    """
    _check_classes(probabilities)
    _check_shares("probabilities", "numbers", probabilities)
    if check_number("temperature", temperature) <= 0:
        raise ValueError(f"temperature: expected a number above 0, got {temperature!r}")
    possible = probabilities > 0
    logs = torch.where(possible, probabilities, 1).log() / temperature  # no gradient through the log of 0
    impossible = ~possible & possible.any(-1, keepdim=True)  # a row of zeros has no softmax
    return torch.where(possible, torch.softmax(logs.masked_fill(impossible, -torch.inf), -1), 0)


def _check_shares(name: str, kind: str, value: Tensor) -> None:
    wrong = ~((value >= 0) & value.isfinite())
    if bool(wrong.any()):
        raise ValueError(f"{name}: expected finite {kind} that are not negative, got {float(value[wrong][0]):g}")


def _check_classes(probabilities: Tensor) -> None:
    if not check_floats("probabilities", probabilities).ndim:
        raise ValueError("probabilities: expected [..., C], got []")


def emotion_from_distribution(probabilities: Tensor, dataset: str | LabelSet) -> Tensor:
    """The emotion code of probabilities [..., C]: the mean of their classes' codes; neutral takes intensity away.

    Lost: whether a middling intensity is a faint emotion or a divided vote; `calm` becomes neutral.

    Returns:
        [..., 7], summing to at most 1; linear, so differentiable.

    >>> emotion_from_distribution(torch.tensor([0.4, 0.6, 0, 0, 0, 0, 0, 0]), "affectnet-8")[0]
    tensor(0.6000)
    """
    known = label_set(dataset)
    check_floats("probabilities", probabilities, len(known.ids))
    return probabilities @ class_codes(known).to(probabilities)


def distribution_from_emotion(codes: Tensor, dataset: str | LabelSet) -> Tensor:
    """Probabilities over a data set's classes of codes: intensities, and neutral for what is missing to 1.

    `emotion_from_distribution` undoes it for data sets with neutral and all emotions in the code, unless the
    intensities sum to more than 1: then they are divided by their sum, and how strong they were is lost. Also lost:
    emotions that the data set has no class for.

    Args:
        codes: [..., 7] in [0, 1].
    Returns:
        [..., C], differentiable; sums to 1 if the data set has neutral and the emotions in the code.
    Raises:
        ValueError: the data set's classes are compounds, which are no sum of intensities.
    """
    known = label_set(dataset)
    check_floats("codes", codes, len(EMOTIONS))
    others = [name for name in known.emotions if name not in (*EMOTIONS, "neutral", "calm")]
    if others:
        raise ValueError(f"dataset: {known.name} has compounds ({others[0]}, ...); use labels_from_emotion")
    total = codes.sum(-1, keepdim=True)
    shares = codes / total.clamp_min(1)
    rest = (1 - total).clamp_min(0)[..., 0]
    none = torch.zeros_like(rest)
    columns = [
        shares[..., EMOTIONS.index(name)] if name in EMOTIONS else rest if name == "neutral" else none
        for name in known.emotions
    ]
    return torch.stack(columns, -1)


def distribution_loss(logits: Tensor, probabilities: Tensor, reliability: Tensor | None = None) -> Tensor:
    """Cross-entropy against label distributions, the mean over samples weighted by how reliable each one is.

        sum_b r_b H(p_b, softmax(logits_b)) / sum_b r_b

    Args:
        logits: [..., C] of a classifier.
        probabilities: [..., C] the target.
        reliability: [...]; None trusts all alike.
    Returns:
        a scalar, differentiable; 0 where no sample has any weight.
    """
    check_floats("logits", logits)
    check_floats("probabilities", probabilities)
    if logits.shape != probabilities.shape:
        raise ValueError(f"probabilities: expected {list(logits.shape)} like logits, got {list(probabilities.shape)}")
    surprise = -(probabilities * functional.log_softmax(logits, -1)).sum(-1)
    weight = torch.ones_like(surprise) if reliability is None else check_floats("reliability", reliability)
    if weight.shape != surprise.shape:
        raise ValueError(f"reliability: expected {list(surprise.shape)}, got {list(weight.shape)}")
    return (weight * surprise).sum() / weight.sum().clamp_min(torch.finfo(surprise.dtype).tiny)

"""What a preference run can go wrong in, as figures per batch and sentences at the end. No torch.

A `Look` is one example under the policy as it is: pairs have both sides, unpaired examples (KTO) have one.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean

from training.core.loss_course import Scale, StepLoss, loss_alarms
from training.core.run.records import Figures

# How far the mean log-ratio per token of chosen completions may fall before it is called displacement.
DISPLACED = -0.02
# From this correlation on, and with that many pairs, length explains more than half of the margin's variance.
LENGTH_CORRELATION = 0.7
LENGTH_PAIRS = 20
# On a fresh adapter the first loss is known; further off than this, the set-up is wrong.
FIRST_LOSS_NOISE = 0.05
MOSTLY = 0.5
# Mean |h| of training texts, nats a token: a typical token has become e times as likely, or as unlikely.
FAR_PER_TOKEN = 1.0
# Nats per token by which nothing is called changed.
UNCHANGED = 1e-4


@dataclass(frozen=True)
class SideLook:
    """A completion under the policy: summed log-prob (nats), reward, and h per token (None: no reference)."""

    logp: float
    reward: float
    tokens: int
    log_ratios: tuple[float, ...] | None

    @property
    def log_ratio_per_token(self) -> float | None:
        """Mean of log π_policy − log π_reference over the completion's tokens."""
        return fmean(self.log_ratios) if self.log_ratios else None


@dataclass(frozen=True)
class Look:
    """One example under the policy; `loss` is weighted, a `ranked` example says which side is better."""

    index: int
    loss: float
    margin: float
    chosen: SideLook | None
    rejected: SideLook | None
    tokens: int
    ranked: bool = True

    @property
    def length_difference(self) -> int | None:
        """Tokens of chosen minus tokens of rejected."""
        return self.chosen.tokens - self.rejected.tokens if self.chosen and self.rejected else None


def figures_of(looks: Sequence[Look]) -> Figures:
    """Means over some examples, as metrics.jsonl names them."""
    chosen = [look.chosen for look in looks if look.chosen]
    rejected = [look.rejected for look in looks if look.rejected]
    ranked = [look for look in looks if look.ranked]
    reward_chosen, reward_rejected = _mean(chosen, _reward), _mean(rejected, _reward)
    return Figures(
        loss=fmean(look.loss for look in looks),
        rewards_chosen=reward_chosen,
        rewards_rejected=reward_rejected,
        rewards_accuracies=_mean(ranked, lambda look: float(look.margin > 0)),
        rewards_margins=_difference(reward_chosen, reward_rejected),
        rewards_contradicted=_mean(ranked, lambda look: float(look.margin < 0)),
        logps_chosen=_mean(chosen, lambda side: side.logp),
        logps_rejected=_mean(rejected, lambda side: side.logp),
        log_ratio_per_token_chosen=_mean(chosen, lambda side: side.log_ratio_per_token),
        log_ratio_per_token_rejected=_mean(rejected, lambda side: side.log_ratio_per_token),
        absolute_log_ratio_per_token=_mean([*chosen, *rejected], _absolute_log_ratio),
        length_margin_correlation=length_margin_correlation(looks),
    )


def length_margin_correlation(looks: Sequence[Look]) -> float | None:
    """Pearson's correlation of the margin with the difference in length; None where it is not defined."""
    points = [(look.length_difference, look.margin) for look in looks if look.length_difference is not None]
    if len(points) < 3:
        return None
    lengths, margins = [float(length) for length, _ in points], [margin for _, margin in points]
    mean_length, mean_margin = fmean(lengths), fmean(margins)
    together = sum((x - mean_length) * (y - mean_margin) for x, y in zip(lengths, margins, strict=True))
    spread = math.sqrt(sum((x - mean_length) ** 2 for x in lengths))
    spread *= math.sqrt(sum((y - mean_margin) ** 2 for y in margins))
    return together / spread if spread > 0 else None


@dataclass(frozen=True)
class Course:
    """What the warnings look at: all examples before the first step and after the last, and all losses.

    `margin_before`, `chosen_before` and `rejected_before` (h per token, None without a reference) are of
    before the first step; `after` is None where nobody has looked since the last; `losses` are those of every
    step, in order; `first_loss_expected` is what the first of them must be when nothing has been trained yet.
    """

    margin_before: float
    chosen_before: float | None
    rejected_before: float | None
    after: Figures | None
    pairs: int
    losses: tuple[StepLoss, ...]
    scale: Scale
    first_loss_expected: float | None
    truncated_share: float


def warnings_of(course: Course) -> tuple[str, ...]:
    """What the run's figures warn of, a sentence each."""
    return tuple(
        sentence
        for sentence in (
            *loss_alarms(course.losses, scale=course.scale),
            *(_after(course, after=course.after) if course.after else ()),
            _first_loss(course),
            _truncated(course),
        )
        if sentence
    )


def _after(course: Course, *, after: Figures) -> Iterator[str]:
    """What the examples tell under the trained policy."""
    chosen = _difference(after.log_ratio_per_token_chosen, course.chosen_before)
    rejected = _difference(after.log_ratio_per_token_rejected, course.rejected_before)
    if chosen is not None and rejected is not None:
        yield unchanged(chosen=chosen, rejected=rejected)
    yield displaced(margin=_difference(after.rewards_margins, course.margin_before), chosen=chosen)
    yield follows_length(after.length_margin_correlation, pairs=course.pairs)
    yield far(after.absolute_log_ratio_per_token)


def unchanged(*, chosen: float, rejected: float) -> str:
    """What training that moves nothing is told with, or nothing; changes of h in nats per token."""
    if max(abs(chosen), abs(rejected)) >= UNCHANGED:
        return ""
    return (
        "no change: the policy says its training texts as it did before "
        f"({chosen:+.1e} and {rejected:+.1e} nats a token); "
        "the learning rate is too low, or the run too short"
    )


def displaced(*, margin: float | None, chosen: float | None) -> str:
    """What likelihood displacement is told with, or nothing; changes since the start, `chosen` per token."""
    if margin is None or chosen is None or margin <= 0 or chosen > DISPLACED:
        return ""
    return (
        f"likelihood displacement: the margin grew by {margin:.3g}, yet the chosen completions became less "
        f"likely since this run began ({chosen:+.3f} nats a token); a lower learning rate, fewer epochs or "
        "nll_alpha = 0.2 help"
    )


def follows_length(correlation: float | None, *, pairs: int) -> str:
    """What a margin that follows the difference in length is told with, or nothing."""
    if correlation is None or pairs < LENGTH_PAIRS or abs(correlation) < LENGTH_CORRELATION:
        return ""
    wanted = "longer" if correlation > 0 else "shorter"
    return (
        f"length: the margin follows the difference in length (correlation {correlation:+.2f}), so the "
        "policy may "
        f"have learned to be {wanted}; compare the length of its samples, or use a loss per token "
        "(dpo_norm, simpo)"
    )


def far(distance: float | None) -> str:
    """What a policy far from its reference is told with, or nothing; mean |h| in nats per token."""
    if distance is None or distance < FAR_PER_TOKEN:
        return ""
    return (
        f"distance: on its training texts its log-probs are {distance:.2f} nats a token away from the "
        "reference's (mean |log-ratio|); raise β or lower the learning rate, and read its samples"
    )


def _first_loss(course: Course) -> str:
    expected, first = course.first_loss_expected, course.losses[0].loss
    if expected is None or abs(first - expected) <= FIRST_LOSS_NOISE:
        return ""
    return (
        f"first loss: it was {first:.4f} where nothing had been trained and {expected:.4f} "
        "was due; "
        "the reference is not the policy's own start"
    )


def _truncated(course: Course) -> str:
    if course.truncated_share <= MOSTLY:
        return ""
    return (
        f"truncation: {course.truncated_share:.0%} of the completions have no end token, so the policy "
        "sees few "
        "endings; sample longer responses"
    )


def _reward(side: SideLook) -> float:
    return side.reward


def _absolute_log_ratio(side: SideLook) -> float | None:
    """Mean of |h| over the tokens: how far policy and reference are apart on this text; no estimate of a KL.

    Training texts are drawn neither from the policy nor from the reference, so no estimator of a KL holds on
    them; those with an exp(h) are ruled by the one token that became likelier by many nats.
    """
    return fmean(map(abs, side.log_ratios)) if side.log_ratios else None


def _mean(items: Sequence, value: Callable) -> float | None:  # type: ignore[type-arg]
    """The mean of the values that are known, None when none is."""
    known = [number for number in map(value, items) if number is not None]
    return fmean(known) if known else None


def _difference(first: float | None, second: float | None) -> float | None:
    return None if first is None or second is None else first - second

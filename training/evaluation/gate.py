"""Whether a policy may be gone on from: thresholds against figures, each with a reason. Pure; no Django."""

from dataclasses import dataclass, field
from enum import StrEnum
from math import isfinite

from training.core.loss_course import StepLoss, diverged, preference_scale
from training.evaluation.judges import judged_by
from training.evaluation.length_control import LengthControlled
from training.evaluation.win_rate import WinRate
from training.evaluation.words import number, percent, signed

# Nats per token below which an adapter as good as repeats the reference.
NO_CHANGE_PER_TOKEN = 1e-4
REFERENCE = "the SFT reference"
# Of a run of fewer steps little can be said.
FEW_STEPS = 3
# A policy is blamed for cut responses only where it has this much more of them than the reference: a limit
# that is too low for the prompts cuts both.
CUT_MORE = 0.25


class Verdict(StrEnum):
    """What a check, or the gate as a whole, says."""

    PASS = "pass"
    FAIL = "fail"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Thresholds:
    """What a study asks of a policy; None: not checked."""

    win_rate_over_reference: float | None = 0.5
    win_rate_over_parent: float | None = 0.5
    length_growth: float | None = 1.5
    kl: float | None = 50.0
    displacement: float | None = 0.5
    cut_share: float | None = 0.5


@dataclass(frozen=True)
class Evidence:
    """What is known of a policy; None where it is not known (yet).

    `tokens` are mean lengths of held-out responses, `cut` the share of them that the length limit ended, `kl`
    the estimate of KL(π‖π_ref) in nats a response, `kl_bias` why it is none (empty: it is one),
    `chosen_log_ratio` the mean log π − log π_ref per token of the chosen responses it was trained on,
    `loss_first` and `loss_last` the loss at both ends of its run, means over `loss_steps` steps (None: of one
    step each, by a trainer that did not look for divergence in runs of less than three).
    """

    over_reference: WinRate
    over_parent: WinRate | None = None
    parent: str = ""
    length_controlled: LengthControlled | None = None
    tokens: float | None = None
    reference_tokens: float | None = None
    cut: float | None = None
    reference_cut: float | None = None
    kl: float | None = None
    kl_bias: str = ""
    kl_per_token: float | None = None
    chosen_log_ratio: float | None = None
    loss_first: float | None = None
    loss_last: float | None = None
    loss_steps: int | None = None
    steps: int | None = None
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Check:
    """One threshold: what it came to, in a sentence with the figures."""

    name: str
    verdict: Verdict
    sentence: str


@dataclass(frozen=True)
class Gate:
    """All checks, and what to watch that no threshold decides, of which `length_alarm` is one."""

    checks: tuple[Check, ...]
    alarms: tuple[str, ...] = field(default=())
    length_alarm: str = ""

    @property
    def verdict(self) -> Verdict:
        verdicts = {check.verdict for check in self.checks}
        for worst in (Verdict.FAIL, Verdict.UNKNOWN):
            if worst in verdicts:
                return worst
        return Verdict.PASS

    @property
    def failures(self) -> tuple[str, ...]:
        return tuple(check.sentence for check in self.checks if check.verdict == Verdict.FAIL)

    @property
    def label(self) -> str:
        return {"pass": "Passes", "fail": "Fails", "unknown": "Not known yet"}[self.verdict]

    @property
    def sentence(self) -> str:
        """Return the whole in one sentence."""
        failed, open_ = (
            sum(check.verdict == verdict for check in self.checks)
            for verdict in (Verdict.FAIL, Verdict.UNKNOWN)
        )
        if failed:
            return f"{failed} of {len(self.checks)} checks fail."
        if open_:
            return f"{open_} of {len(self.checks)} checks cannot be decided yet; none fails."
        return f"All {len(self.checks)} checks pass."


def gate_of(evidence: Evidence, *, thresholds: Thresholds) -> Gate:
    """Return every check that the thresholds ask for, the two that always apply, and the alarms."""
    checks = [_training(evidence), _changes_something(evidence)]
    if thresholds.win_rate_over_reference is not None:
        checks.append(
            _wins(evidence.over_reference, opponent=REFERENCE, needed=thresholds.win_rate_over_reference)
        )
    if thresholds.win_rate_over_parent is not None and evidence.over_parent is not None:
        checks.append(
            _wins(evidence.over_parent, opponent=evidence.parent, needed=thresholds.win_rate_over_parent)
        )
    if thresholds.length_growth is not None:
        checks.append(_length(evidence, most=thresholds.length_growth))
    if thresholds.cut_share is not None:
        checks.append(_cut(evidence, most=thresholds.cut_share))
    if thresholds.kl is not None:
        checks.append(_distance(evidence, most=thresholds.kl))
    if thresholds.displacement is not None:
        checks.append(_displacement(evidence, most=thresholds.displacement))
    return Gate(tuple(checks), alarms=_alarms(evidence), length_alarm=_length_alarm(evidence))


def _training(evidence: Evidence) -> Check:
    """Say what the trainer found, which knows every step."""
    name, first, last = "Training", evidence.loss_first, evidence.loss_last
    if not all(loss is None or isfinite(loss) for loss in (first, last)):
        return Check(name, Verdict.FAIL, "Its run diverged: the loss is not a finite number.")
    if warned := _warning_of_divergence(evidence):
        return Check(name, Verdict.FAIL, warned)
    if first is None or last is None:
        return Check(name, Verdict.UNKNOWN, "The losses of its run are not known.")
    ends = f"{evidence.loss_steps} steps" if (evidence.loss_steps or 1) > 1 else "step"
    course = f"from {number(first)} (first {ends}) to {number(last)} (last {ends})"
    if _fell_apart_unseen(evidence, first=first, last=last):
        return Check(
            name, Verdict.FAIL, f"Its run diverged: the loss went {course}; lower the learning rate."
        )
    sentence = f"The trainer warned of no divergence; the loss went {course}."
    if evidence.steps is not None and evidence.steps < FEW_STEPS:
        sentence += f" Its steps ({evidence.steps}) are too few to tell more."
    return Check(name, Verdict.PASS, sentence)


def _fell_apart_unseen(evidence: Evidence, *, first: float, last: float) -> bool:
    """Return whether the loss came apart in a run so short that an earlier trainer did not look."""
    if evidence.loss_steps is not None or evidence.steps is None or evidence.steps >= FEW_STEPS:
        return False
    start, end = StepLoss(step=1, loss=first, examples=1), StepLoss(step=2, loss=last, examples=1)
    return bool(diverged(start, recent=[end], scale=preference_scale({})))


def _changes_something(evidence: Evidence) -> Check:
    name, moved = "Adapter", evidence.kl_per_token
    if moved is None:
        return Check(name, Verdict.UNKNOWN, "Whether the adapter changes anything is known after scoring.")
    if abs(moved) < NO_CHANGE_PER_TOKEN:
        return Check(
            name,
            Verdict.FAIL,
            "The adapter changes nothing: its responses are as likely under the SFT reference "
            f"({number(moved)} nats a token apart on its own responses). Is the learning rate too low?",
        )
    return Check(
        name,
        Verdict.PASS,
        f"It differs from the SFT reference by {number(moved)} nats a token on its own responses.",
    )


def _wins(rate: WinRate, *, opponent: str, needed: float) -> Check:
    name, interval = f"Win rate over {opponent}", rate.interval
    if interval is None:
        return Check(name, Verdict.UNKNOWN, f"Nobody has compared it with {opponent} yet.")
    figures = f"{percent(interval.share)} [{percent(interval.low)}, {percent(interval.high)}] over {opponent}"
    on = f"on {interval.prompts} prompt{'' if interval.prompts == 1 else 's'}{judged_by(rate.tally)}"
    if interval.low >= needed:
        return Check(name, Verdict.PASS, f"It wins {figures} {on}; at least {percent(needed)} is shown.")
    if interval.high < needed:
        return Check(name, Verdict.FAIL, f"It wins only {figures} {on}; {percent(needed)} is out of reach.")
    return Check(
        name, Verdict.UNKNOWN, f"It wins {figures} {on}; the interval holds both sides of {percent(needed)}."
    )


def _length(evidence: Evidence, *, most: float) -> Check:
    name, tokens, reference = "Length", evidence.tokens, evidence.reference_tokens
    if tokens is None or not reference:
        return Check(name, Verdict.UNKNOWN, "The lengths are known once held-out prompts have been sampled.")
    figures = f"{tokens:.0f} tokens a response against the SFT reference's {reference:.0f}"
    grown = tokens / reference
    if grown > most:
        return Check(
            name, Verdict.FAIL, f"Its responses grew {grown:.2g} times ({figures}); {most:g} is the limit."
        )
    return Check(name, Verdict.PASS, f"{figures}: {grown:.2g} times as long, {most:g} is the limit.")


def _cut(evidence: Evidence, *, most: float) -> Check:
    """Degenerate text has no end: it runs into the length limit where the reference's does not."""
    name, cut, reference = "Cut off", evidence.cut, evidence.reference_cut
    if cut is None or reference is None:
        return Check(name, Verdict.UNKNOWN, "The share is known once held-out prompts have been sampled.")
    figures = f"{percent(cut)} of its responses are cut at the length limit, {percent(reference)} of the SFT"
    figures += f" reference's; {percent(most)} is the limit"
    if cut > most and cut - reference >= CUT_MORE:
        return Check(name, Verdict.FAIL, f"{figures}. It no longer ends its text: read its responses.")
    above = f", and it is less than {percent(CUT_MORE)} above the reference" if cut > most else ""
    return Check(name, Verdict.PASS, f"{figures}{above}.")


def _distance(evidence: Evidence, *, most: float) -> Check:
    name, kl = "Distance", evidence.kl
    if kl is None:
        return Check(name, Verdict.UNKNOWN, "The KL is known once its held-out responses have been scored.")
    figures = f"KL to the SFT reference is {number(kl)} nats a response, on its own responses"
    bias = f" {evidence.kl_bias}" if evidence.kl_bias else ""
    if not isfinite(kl) or kl > most:
        return Check(name, Verdict.FAIL, f"{figures}, above the limit of {most:g}: over-optimised?{bias}")
    return Check(name, Verdict.PASS, f"{figures}; {most:g} is the limit.{bias}")


def _displacement(evidence: Evidence, *, most: float) -> Check:
    name, ratio = "Displacement", evidence.chosen_log_ratio
    if ratio is None:
        return Check(name, Verdict.UNKNOWN, "Its run left no log-ratio of the chosen responses.")
    figures = f"on its training pairs the chosen responses are {signed(ratio)} nats a token "
    figures += "against the SFT reference"
    if not isfinite(ratio) or ratio < -most:
        return Check(
            name,
            Verdict.FAIL,
            f"Likelihood displacement: {figures}, more than {most:g} below. What was chosen became "
            "unlikely, too.",
        )
    return Check(name, Verdict.PASS, f"Within the limit: {figures}; {most:g} below is the limit.")


def _alarms(evidence: Evidence) -> tuple[str, ...]:
    said = _warning_of_divergence(evidence)
    others = (warning for warning in evidence.warnings if warning != said)
    return tuple(filter(None, [_length_alarm(evidence), *others]))


def _warning_of_divergence(evidence: Evidence) -> str:
    return next((warning for warning in evidence.warnings if "divergence" in warning), "")


def _length_alarm(evidence: Evidence) -> str:
    """Return a sentence when the judges' liking of length is enough to explain the win."""
    plain, controlled = evidence.over_reference.interval, evidence.length_controlled
    if plain is None or plain.low <= 0.5 or controlled is None:
        return ""
    if controlled.share is None or controlled.low is None or (controlled.length_effect or 0.0) == 0.0:
        return controlled.sentence if _all_longer(evidence) else ""
    if controlled.low > 0.5:
        return ""
    side = "longer" if (controlled.length_effect or 0.0) > 0 else "shorter"
    bounds = f"[{percent(controlled.low)}, {percent(controlled.high or 1.0)}]"
    return (
        f"The judges prefer {side} responses, and that alone may explain the win: {percent(plain.share)} as "
        f"it is, {percent(controlled.share)} {bounds} at equal length."
    )


def _all_longer(evidence: Evidence) -> bool:
    """Return whether the length-controlled rate is undefined because one side is always longer."""
    return evidence.length_controlled is not None and "at equal length" in evidence.length_controlled.sentence

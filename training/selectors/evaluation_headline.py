"""The sentence on top: whether the newest policy is preferred, by whom, and whether it fails its gate."""

from __future__ import annotations

from training.evaluation.judges import judged_by, judges_in_words, rules_in_words
from training.evaluation.outcomes import Tally
from training.evaluation.win_rate import WinRate
from training.evaluation.words import percent
from training.selectors.evaluation import PolicyEvaluation, StudyEvaluation
from training.statistics import Interval


def headline_of(evaluation: StudyEvaluation) -> str:
    """Return the one sentence that a lead came for."""
    newest = evaluation.newest
    if newest is None:
        return "There is no trained policy yet; the first round makes one."
    parent = newest.over_parent
    if newest.parent is not None and parent is not None and parent.interval is not None:
        return verdict_sentence(newest, rate=parent, opponent=newest.parent.label)
    return verdict_sentence(newest, rate=newest.over_reference, opponent="the SFT reference")


def verdict_sentence(row: PolicyEvaluation, *, rate: WinRate, opponent: str) -> str:
    """Return what the interval allows to say, and no more; a failing gate comes first."""
    name = row.policy.label
    if row.gate.failures:
        return failing_sentence(name, rate=rate, opponent=opponent)
    if rate.interval is None:
        return f"Nobody has compared {name} with {opponent} yet."
    figures, judges = figures_of(rate.interval), judges_in_words(rate.tally)
    if rate.interval.low > 0.5:
        if only_rules(rate.tally):
            return f"{capitalised(rules_of(rate.tally))} {name} to {opponent}: in {figures}."
        return f"{name} is better than {opponent}: {judges} prefer it in {figures}."
    if rate.interval.high < 0.5:
        if only_rules(rate.tally):
            return f"{capitalised(rules_of(rate.tally))} {opponent} to {name}, which wins only {figures}."
        return f"{name} is worse than {opponent}: {judges} prefer it in only {figures}."
    better = better_in_words(name, tally=rate.tally, opponent=opponent)
    return f"Whether {better} cannot be said yet: it wins {figures}{judged_by(rate.tally)}."


def failing_sentence(name: str, *, rate: WinRate, opponent: str) -> str:
    """Return the sentence of a policy whose gate fails, whatever the verdicts say."""
    if rate.interval is None:
        return f"{name} fails its gate, and nobody has compared it with {opponent} yet."
    figures, judges = figures_of(rate.interval), judges_in_words(rate.tally)
    if rate.interval.low > 0.5:
        return f"{name} fails its gate, though {judges} prefer it to {opponent} in {figures}."
    if rate.interval.high < 0.5:
        return f"{name} fails its gate, and {judges} prefer it to {opponent} in only {figures}."
    better = better_in_words("it", tally=rate.tally, opponent=opponent)
    said = f"whether {better} cannot be said yet: it wins {figures}{judged_by(rate.tally)}."
    return f"{name} fails its gate; {said}"


def better_in_words(name: str, *, tally: Tally, opponent: str) -> str:
    """Return what is in question: that a policy is better, or only that a rule prefers it."""
    if only_rules(tally):
        return f"{rules_of(tally)} {name} to {opponent}"
    return f"{name} is better than {opponent}"


def rules_of(tally: Tally) -> str:
    return f"{rules_in_words(tally.rules)} prefer{'s' if len(tally.rules) == 1 else ''}"


def only_rules(tally: Tally) -> bool:
    """Return whether every verdict was a rule's: what it prefers is then all that is known."""
    return tally.simulated > 0 and not tally.by_people


def figures_of(interval: Interval) -> str:
    prompts = f"{interval.prompts} prompt{'' if interval.prompts == 1 else 's'}"
    bounds = f"{percent(interval.low)} to {percent(interval.high)}"
    share = percent(interval.share)
    return f"{share} of comparisons on {prompts} (95\N{NO-BREAK SPACE}% interval {bounds})"


def capitalised(text: str) -> str:
    return text[:1].upper() + text[1:]

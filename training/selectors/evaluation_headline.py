"""The sentence on top: whether the policy in use is preferred, by whom, and whether it fails its gate."""

from __future__ import annotations

from collections.abc import Sequence

from training.evaluation.judges import judged_by, judges_in_words, rules_in_words
from training.evaluation.outcomes import Tally
from training.evaluation.win_rate import WinRate
from training.evaluation.words import percent
from training.models import Policy
from training.selectors.evaluation import PolicyEvaluation, StudyEvaluation
from training.statistics import Interval

MOST_NAMED = 3


def headline_of(evaluation: StudyEvaluation) -> str:
    """Return the one sentence that a lead came for."""
    row = evaluation.in_use
    if row is None:
        if evaluation.rows:
            return "The SFT reference is in use again, and there is nothing to compare it with."
        return "There is no trained policy yet; the first round makes one."
    parent = row.over_parent
    if row.parent is not None and parent is not None and parent.interval is not None:
        return verdict_sentence(row, rate=parent, opponent=row.parent.label)
    return verdict_sentence(row, rate=row.over_reference, opponent="the SFT reference")


def basis_of(evaluation: StudyEvaluation) -> str:
    """Return why it is about this policy, where newer ones or others of its round could be meant."""
    policy, newer = evaluation.policy_in_use, evaluation.newer
    if policy is None:
        return ""
    if newer:
        name = policy.label if policy.number else f"the {policy.label}"
        which = f"about {name}, {evaluation.settled.why}"
        are = "is newer and was" if len(newer) == 1 else "are newer and were"
        return f"This is {which}; {named(newer)} {are} not chosen."
    siblings = siblings_of(policy, evaluation=evaluation)
    if evaluation.settled.policy is None and siblings:
        return f"This is about {policy.label}, the newest; {named(siblings)} can be chosen as well."
    return ""


def siblings_of(policy: Policy, *, evaluation: StudyEvaluation) -> list[Policy]:
    """Return the other policies that the round of a policy gave."""
    run = getattr(policy, "run", None)
    others = (row.policy for row in evaluation.rows if row.policy != policy)
    return [other for other in others if run and other.run.round_id == run.round_id]


def named(policies: Sequence[Policy]) -> str:
    """Return the labels of one policy or several, at most three of them by name."""
    if len(policies) > MOST_NAMED:
        return f"{len(policies)} others"
    labels = [policy.label for policy in policies]
    return " and ".join(filter(None, [", ".join(labels[:-1]), labels[-1]]))


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

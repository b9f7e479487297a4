"""Who gave the verdicts behind a win rate: people, simulated annotators, or both. Pure; no Django."""

from collections.abc import Sequence

from training.evaluation.outcomes import Tally


def judges_in_words(tally: Tally) -> str:
    """Return who judged, as the subject of a sentence; nothing where nobody was asked."""
    if not tally.verdicts:
        return ""
    if not tally.simulated:
        return "people"
    if not tally.by_people:
        return simulated_annotators(tally.rules)
    rules = simulated_annotators(tally.rules, verdicts=tally.simulated)
    return f"people ({counted(tally.by_people)}) and {rules}"


def judged_by(tally: Tally) -> str:
    """Return “, judged by …” where a rule gave any of the verdicts: without a word it was people."""
    return f", judged by {judges_in_words(tally)}" if tally.simulated else ""


def simulated_annotators(rules: Sequence[str], *, verdicts: int | None = None) -> str:
    """Return simulated annotators with the rules that they follow, and with how much they said."""
    said = "" if verdicts is None else f"{counted(verdicts)}, "
    return f"simulated annotators ({said}rule{'' if len(rules) == 1 else 's'} {quoted(rules)})"


def rules_in_words(rules: Sequence[str]) -> str:
    """Return the rules that judged, as the subject of a sentence: the rule “shorter”."""
    return f"the rule{'' if len(rules) == 1 else 's'} {quoted(rules)}"


def quoted(rules: Sequence[str]) -> str:
    return ", ".join(f"“{rule}”" for rule in rules)


def counted(verdicts: int) -> str:
    return f"{verdicts} verdict{'' if verdicts == 1 else 's'}"

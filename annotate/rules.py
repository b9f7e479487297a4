"""The rules by which a simulated annotator chooses between two texts; pure, so that anyone can check."""

from collections.abc import Callable

from annotate.models import Verdict

Rule = Callable[[str, str], Verdict]


def prefer_shorter(text_a: str, text_b: str) -> Verdict:
    """Prefer the text with fewer words; equal counts are a tie."""
    return _smaller(len(text_a.split()), len(text_b.split()))


def prefer_longer(text_a: str, text_b: str) -> Verdict:
    """Prefer the text with more words; equal counts are a tie."""
    return _smaller(-len(text_a.split()), -len(text_b.split()))


def _smaller(a: int, b: int) -> Verdict:
    if a == b:
        return Verdict.TIE
    return Verdict.A if a < b else Verdict.B


RULES: dict[str, Rule] = {"shorter": prefer_shorter, "longer": prefer_longer}


RULE_WORDS = {"shorter": "fewest words", "longer": "most words"}


def rule_in_words(name: str) -> str:
    """Return a rule with what it counts, as in “shorter (fewest words)”; an unknown name as it is."""
    return f"{name} ({RULE_WORDS[name]})" if name in RULE_WORDS else name


def rule_named(name: str) -> Rule:
    """Return the rule, or raise ValueError that lists the rules there are."""
    try:
        return RULES[name]
    except KeyError:
        raise ValueError(f"rule = {name!r} is not known; there are: {', '.join(sorted(RULES))}") from None

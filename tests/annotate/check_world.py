"""Studies with practice and gold pairs for tests."""

from __future__ import annotations

from annotate.models import Pair, Study, Verdict
from annotate.services.gold import add_known_pair


def make_known(study: Study, purpose: Pair.Purpose, *, number: int = 1, verdict: Verdict = Verdict.A) -> Pair:
    """Add a gold or practice pair of its own texts."""
    return add_known_pair(
        study=study,
        purpose=purpose,
        prompt=f"Question number {number} of its own?",
        response_a=f"The right answer {number}.",
        response_b=f"The wrong answer {number}.",
        verdict=verdict.value,
        explanation=f"Because of reason **{number}**.",
        actor=None,
    )


def configure(study: Study, **fields: float) -> Study:
    """Set fields of a study and return it fresh."""
    Study.objects.filter(pk=study.pk).update(**fields)
    return Study.objects.get(pk=study.pk)

"""One pair with everything that was said of it, for leads. No view for annotators may use this."""

from dataclasses import dataclass

from django.utils.safestring import SafeString

from annotate.models import Flag, Lease, Pair, Preference, Resolution, Side, Skip
from annotate.selectors.shown_pairs import ShownPrompt, ShownResponse, show_prompt, show_response
from annotate.word_diff import word_diff

STRENGTHS = {1: "negligibly", 2: "slightly", 3: "clearly", 4: "significantly"}


@dataclass(frozen=True)
class ShownVote:
    """One annotator's label; `edit` has the words that they took out and put in."""

    preference: Preference
    strength: str
    saw_left: str
    edit: SafeString | None
    seconds: float | None


@dataclass(frozen=True)
class ReviewedPair:
    """A pair as leads see it: A and B are the stored responses."""

    pair: Pair
    prompt: ShownPrompt
    panes: tuple[ShownResponse, ShownResponse]
    votes: tuple[ShownVote, ...]
    flags: tuple[Flag, ...]
    skips: tuple[Skip, ...]
    leases: tuple[Lease, ...]
    resolution: Resolution | None


def reviewed_pair(pair: Pair) -> ReviewedPair:
    """Load what was said of a pair; its prompt and responses are loaded."""
    votes = Preference.objects.select_related("annotator", "edited_response").filter(pair=pair).order_by("pk")
    resolution = Resolution.objects.select_related("resolved_by").filter(pair=pair).first()
    return ReviewedPair(
        pair=pair,
        prompt=show_prompt(pair.prompt),
        panes=(show_response(pair.response_a, name="A"), show_response(pair.response_b, name="B")),
        votes=tuple(_vote(vote, pair=pair) for vote in votes),
        flags=tuple(pair.flags.select_related("annotator", "resolved_by").order_by("pk")),
        skips=tuple(pair.skips.select_related("annotator").order_by("pk")),
        leases=tuple(pair.leases.select_related("annotator").order_by("pk")),
        resolution=resolution,
    )


def _vote(vote: Preference, *, pair: Pair) -> ShownVote:
    return ShownVote(
        preference=vote,
        strength=STRENGTHS.get(vote.strength or 0, ""),
        saw_left=vote.shown_left.upper(),
        edit=_edit(vote, pair=pair),
        seconds=None if vote.duration_ms is None else vote.duration_ms / 1000,
    )


def _edit(vote: Preference, *, pair: Pair) -> SafeString | None:
    if vote.edited_response is None:
        return None
    original = pair.response_a if vote.edited_side == Side.A else pair.response_b
    marked = word_diff(original.text, vote.edited_response.text)
    return marked[1] if marked else None

"""A pair as the screen shows it: rendered texts, neutral names, nothing that tells who wrote what."""

from dataclasses import dataclass

from django.utils.safestring import SafeString

from annotate.markdown import render_markdown
from annotate.models import Pair, Prompt, Response, Side, User
from annotate.services.queue import LeasedPair
from annotate.services.sides import side_token

# Earlier turns that are together longer than this are folded behind a summary.
FOLD_CHARACTERS = 600
TURN_NAMES = {"system": "System", "user": "User", "assistant": "Assistant"}


@dataclass(frozen=True)
class ShownTurn:
    """One message of a prompt."""

    role: str
    name: str
    html: SafeString
    text: str


@dataclass(frozen=True)
class ShownPrompt:
    """A prompt: what was said before, and the last message by the user."""

    earlier: tuple[ShownTurn, ...]
    last: ShownTurn
    folds: bool


@dataclass(frozen=True)
class ShownResponse:
    """A response under its neutral name."""

    name: str
    html: SafeString
    text: str
    was_cut: bool


@dataclass(frozen=True)
class ShownPair:
    """Everything a person sees of a pair; `token` says which sides were shown without telling."""

    pair_id: int
    prompt: ShownPrompt
    panes: tuple[ShownResponse, ShownResponse]
    token: str
    is_practice: bool


def show_pair(leased: LeasedPair, *, annotator: User) -> ShownPair:
    """Render a held pair for the person who holds it."""
    return show_sides(leased.pair, left_side=leased.left_side, annotator=annotator)


def show_sides(pair: Pair, *, left_side: Side, annotator: User) -> ShownPair:
    """Render a pair with `left_side` on the left; its prompt and responses are loaded."""
    left, right = pair.response_a, pair.response_b
    if left_side == Side.B:
        left, right = right, left
    return ShownPair(
        pair_id=pair.pk,
        prompt=show_prompt(pair.prompt),
        panes=(show_response(left, name="A"), show_response(right, name="B")),
        token=side_token(pair_id=pair.pk, annotator_id=annotator.pk, left_side=left_side),
        is_practice=pair.purpose == Pair.Purpose.PRACTICE,
    )


def show_prompt(prompt: Prompt) -> ShownPrompt:
    """Render a prompt's turns."""
    turns = [
        ShownTurn(
            role=message["role"],
            name=TURN_NAMES.get(message["role"], message["role"]),
            html=render_markdown(message["content"]),
            text=message["content"],
        )
        for message in prompt.messages
    ]
    earlier = tuple(turns[:-1])
    return ShownPrompt(
        earlier=earlier,
        last=turns[-1],
        folds=sum(len(turn.text) for turn in earlier) > FOLD_CHARACTERS,
    )


def show_response(response: Response, *, name: str) -> ShownResponse:
    """Render a response."""
    return ShownResponse(
        name=name, html=render_markdown(response.text), text=response.text, was_cut=response.was_cut
    )

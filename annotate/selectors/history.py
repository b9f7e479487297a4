"""One's own labels: found, seen again, and whether they can be changed. Nobody else's, and no purposes."""

import json
from dataclasses import dataclass
from datetime import datetime

from django.core.paginator import Page, Paginator
from django.db.models import Q, QuerySet

from annotate.models import Flag, Pair, Preference, PreferenceRevision, Side, Skip, Study, User, Verdict

PAGE_SIZE = 25
TRAIL_LENGTH = 10
FILTERS = {
    "": "All",
    "left": "A",
    "right": "B",
    "tie": "Tie",
    "both_bad": "Both bad",
    "edited": "Edited",
    "flagged": "Flagged",
    "skipped": "Skipped",
}
SHOWN_NAMES = {"left": "A is better", "right": "B is better", "tie": "Tie", "both_bad": "Both are bad"}
STRENGTHS = {1: "negligibly", 2: "slightly", 3: "clearly", 4: "significantly"}


@dataclass(frozen=True)
class HistoryRow:
    """One pair that a person labelled, skipped or flagged; `shown` is the verdict in terms of the screen."""

    pair_id: int
    prompt: str
    when: datetime
    shown: str
    strength: str
    rationale: str
    is_edited: bool
    was_changed: bool
    flag: Flag | None
    is_open: bool

    @property
    def verdict_name(self) -> str:
        return SHOWN_NAMES.get(self.shown, "Skipped")


@dataclass(frozen=True)
class History:
    """A page of rows with what was asked for."""

    rows: list[HistoryRow]
    page: Page  # type: ignore[type-arg]
    search: str
    chosen: str
    filters: dict[str, str]


@dataclass(frozen=True)
class ShownRevision:
    """What one's label said at a time, in terms of the screen."""

    action: str
    when: datetime
    verdict_name: str
    strength: str
    rationale: str
    is_edited: bool


def history_of(
    *, study: Study, annotator: User, search: str = "", chosen: str = "", page: int = 1
) -> History:
    """Return one's own labels, newest first; `chosen` is one of FILTERS, `search` a text in prompt, responses
    or rationale.
    """
    chosen = chosen if chosen in FILTERS else ""
    acts = _acts(study, annotator=annotator, search=search.strip(), chosen=chosen)
    paginator = Paginator(acts, PAGE_SIZE)
    shown = paginator.get_page(page)
    flags = _flags_on([act.pair_id for act in shown], annotator=annotator)
    rows = [_row(act, flag=flags.get(act.pair_id)) for act in shown]
    return History(rows=rows, page=shown, search=search.strip(), chosen=chosen, filters=FILTERS)


def trail_of(*, study: Study, annotator: User) -> list[HistoryRow]:
    """Return the last ten things done, oldest first: what repeated undo takes back."""
    mine = {"pair__study": study, "annotator": annotator}
    parts = ("pair", "pair__prompt")
    labels = Preference.objects.filter(**mine).select_related(*parts).order_by("-created_at", "-pk")
    skips = Skip.objects.filter(**mine).select_related(*parts).order_by("-created_at", "-pk")
    acts: list[Preference | Skip] = [*labels[:TRAIL_LENGTH], *skips[:TRAIL_LENGTH]]
    latest = sorted(acts, key=lambda act: act.created_at)[-TRAIL_LENGTH:]
    flags = _flags_on([act.pair_id for act in latest], annotator=annotator)
    return [_row(act, flag=flags.get(act.pair_id)) for act in latest]


def revisions_of(*, pair: Pair, annotator: User) -> list[ShownRevision]:
    """Return everything that this person said of a pair, oldest first."""
    mine = PreferenceRevision.objects.filter(pair=pair, annotator=annotator)
    return [
        ShownRevision(
            action=revision.get_action_display(),
            when=revision.created_at,
            verdict_name=SHOWN_NAMES[shown_verdict(revision.verdict, left_side=revision.shown_left)],
            strength=STRENGTHS.get(revision.strength or 0, ""),
            rationale=revision.rationale,
            is_edited=revision.edited_response_id is not None,
        )
        for revision in mine
    ]


def shown_verdict(verdict: str, *, left_side: str) -> str:
    """Translate a stored verdict into left, right, tie or both_bad, as the person saw the pair."""
    if verdict in (Verdict.TIE, Verdict.BOTH_BAD):
        return verdict
    return "left" if verdict == left_side else "right"


def why_frozen(pair: Pair) -> str:
    """Say why a label on this pair cannot be changed, "" when it can."""
    if pair.study.state == Study.State.CLOSED:
        return "This study is closed, so its labels stay as they are."
    if pair.state == Pair.State.FROZEN:
        return "Training on this round has begun, so its labels stay as they are."
    if pair.state == Pair.State.WITHDRAWN:
        return "The lead has withdrawn this pair."
    return ""


def _acts(
    study: Study, *, annotator: User, search: str, chosen: str
) -> QuerySet[Preference] | QuerySet[Skip] | list[Preference | Skip]:
    if chosen == "skipped":
        return _skips(study, annotator, search)
    labels = _labels(study, annotator, search, chosen)
    if chosen != "flagged":
        return labels
    flagged = Flag.objects.filter(annotator=annotator, pair__study=study).values("pair")
    both: list[Preference | Skip] = [
        *labels.filter(pair__in=flagged),
        *_skips(study, annotator, search).filter(pair__in=flagged),
    ]
    return sorted(both, key=lambda act: act.created_at, reverse=True)


def _labels(study: Study, annotator: User, search: str, chosen: str) -> QuerySet[Preference]:
    mine = Preference.objects.filter(annotator=annotator, pair__study=study)
    mine = mine.exclude(pair__purpose=Pair.Purpose.PRACTICE).select_related("pair", "pair__prompt")
    if chosen in ("left", "right"):
        side = Side.A if chosen == "left" else Side.B
        other = Side.B if chosen == "left" else Side.A
        mine = mine.filter(Q(verdict="a", shown_left=side) | Q(verdict="b", shown_left=other))
    elif chosen in ("tie", "both_bad"):
        mine = mine.filter(verdict=chosen)
    elif chosen == "edited":
        mine = mine.filter(edited_response__isnull=False)
    if search:
        mine = mine.filter(_says(search) | Q(rationale__icontains=search))
    return mine.order_by("-created_at", "-pk")


def _skips(study: Study, annotator: User, search: str) -> QuerySet[Skip]:
    mine = Skip.objects.filter(annotator=annotator, pair__study=study)
    mine = mine.exclude(pair__purpose=Pair.Purpose.PRACTICE).select_related("pair", "pair__prompt")
    if search:
        mine = mine.filter(_says(search))
    return mine.order_by("-created_at", "-pk")


def _says(search: str) -> Q:
    # SQLite keeps the messages as JSON with everything beyond ASCII escaped.
    escaped = json.dumps(search)[1:-1]
    return (
        Q(pair__prompt__messages__icontains=search)
        | Q(pair__prompt__messages__icontains=escaped)
        | Q(pair__response_a__text__icontains=search)
        | Q(pair__response_b__text__icontains=search)
    )


def _flags_on(pair_ids: list[int], *, annotator: User) -> dict[int, Flag]:
    return {flag.pair_id: flag for flag in Flag.objects.filter(annotator=annotator, pair__in=pair_ids)}


def _row(act: Preference | Skip, *, flag: Flag | None) -> HistoryRow:
    label = act if isinstance(act, Preference) else None
    return HistoryRow(
        pair_id=act.pair_id,
        prompt=act.pair.prompt.preview,
        when=act.created_at,
        shown=shown_verdict(label.verdict, left_side=label.shown_left) if label else "skipped",
        strength=STRENGTHS.get(label.strength or 0, "") if label else "",
        rationale=label.rationale if label else "",
        is_edited=label is not None and label.edited_response_id is not None,
        was_changed=label is not None and (label.updated_at - label.created_at).total_seconds() > 1,
        flag=flag,
        is_open=act.pair.state == Pair.State.OPEN,
    )

"""Pairs that check rather than collect: practice before the first real pair, gold pairs, and repeats.

All three are copies that one person judges. Practice comes once, in order, and is announced. Gold pairs and
repeats come unannounced among the real ones, each with its share of the pairs that a person gets: a hash of
the person and their latest label decides, so that asking again gives the same answer.
"""

import hashlib
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db.models import Exists, OuterRef, Q, QuerySet, Subquery
from django.utils import timezone

from annotate.models import Membership, Pair, Preference, Study, User

# A repeat is worth asking for once the first look at the pair has faded from memory.
REPEAT_AFTER_LABELS = 20
REPEAT_AFTER = timedelta(days=1)
# How far back a repeat looks; a bound keeps its cost the same for somebody with a hundred thousand labels.
REPEAT_WINDOW = 60
# Templates and copies belong to no delivery.
NO_BATCH = 0
PARTS = ("prompt", "response_a", "response_b")


@dataclass(frozen=True)
class Standing:
    """Where an annotator stands in a study: whether practice is over, and their latest label anywhere."""

    membership_id: int
    practice_done: bool
    latest_label: int
    latest_label_at: datetime | None


def due_check(*, study: Study, annotator: User) -> Pair | None:
    """Make the practice pair, gold pair or repeat that is due now, reserved for the annotator; None: none is.

    Costs nothing where the study checks nothing, usually one query, and at most three reads and one write;
    none of it grows with the study. Simulated annotators are not checked: a rule always agrees with itself.
    """
    checks = bool(study.practice_pairs) or study.gold_share > 0 or study.repeat_share > 0
    standing = _standing(study=study, annotator=annotator) if checks and not annotator.is_simulated else None
    if standing is None:
        return None
    if study.practice_pairs and not standing.practice_done:
        return _next_practice_pair(standing, study=study, annotator=annotator)
    draw = _draw(study=study, annotator=annotator, latest_label=standing.latest_label)
    if draw < study.gold_share:
        return _next_gold_pair(standing, study=study, annotator=annotator)
    if draw < study.gold_share + study.repeat_share:
        return _next_repeat(standing, study=study, annotator=annotator)
    return None


def copy_for(annotator: User, *, template: Pair, purpose: Pair.Purpose) -> Pair:
    """Make one person's copy of a pair; its label counts for nobody else and for no training set."""
    return Pair.objects.create(
        study_id=template.study_id,
        prompt=template.prompt,
        response_a=template.response_a,
        response_b=template.response_b,
        purpose=purpose,
        original=template,
        reserved_for=annotator,
        batch=NO_BATCH,
        labels_wanted=1,
        order_key=template.order_key,
    )


def templates(*, study: Study, purpose: Pair.Purpose) -> QuerySet[Pair]:
    """Return the study's live gold or practice templates in the order in which people get them."""
    return Pair.objects.filter(
        study=study,
        batch=NO_BATCH,
        purpose=purpose,
        reserved_for__isnull=True,
        known_answer__isnull=False,
        state=Pair.State.OPEN,
    ).order_by("order_key", "pk")


def _standing(*, study: Study, annotator: User) -> Standing | None:
    latest = Preference.objects.filter(annotator=annotator).order_by("-created_at")
    row = (
        Membership.objects.filter(study=study, user=annotator)
        .annotate(
            latest_label=Subquery(latest.values("pk")[:1]),
            latest_label_at=Subquery(latest.values("created_at")[:1]),
        )
        .values_list("pk", "practice_done_at", "latest_label", "latest_label_at")
        .first()
    )
    if row is None:
        return None
    return Standing(
        membership_id=row[0],
        practice_done=row[1] is not None,
        latest_label=row[2] or 0,
        latest_label_at=row[3],
    )


def _draw(*, study: Study, annotator: User, latest_label: int) -> float:
    """Return a number in [0, 1) that is the same whenever it is asked for between two labels."""
    digest = hashlib.sha256(f"check:{study.pk}:{annotator.pk}:{latest_label}".encode()).digest()
    return int.from_bytes(digest[:6], "big") / 2**48


def _next_practice_pair(standing: Standing, *, study: Study, annotator: User) -> Pair | None:
    """Return a copy of the next practice pair; when each was given, practice is over for good."""
    mine = Pair.objects.filter(original=OuterRef("pk"), reserved_for=annotator).exclude(
        state=Pair.State.WITHDRAWN
    )
    wanted = templates(study=study, purpose=Pair.Purpose.PRACTICE).annotate(given=Exists(mine))
    for template in wanted.select_related(*PARTS)[: study.practice_pairs]:
        if not template.given:
            return copy_for(annotator, template=template, purpose=Pair.Purpose.PRACTICE)
    Membership.objects.filter(pk=standing.membership_id).update(practice_done_at=timezone.now())
    return None


def _next_gold_pair(standing: Standing, *, study: Study, annotator: User) -> Pair | None:
    """Return a copy of a gold pair that this person has seen neither as gold nor as the pair it came from."""
    seen = Preference.objects.filter(pair=OuterRef("original"), annotator=annotator)
    given = Pair.objects.filter(original=OuterRef("pk"), reserved_for=annotator)
    fresh = templates(study=study, purpose=Pair.Purpose.GOLD).filter(~Exists(seen), ~Exists(given))
    template = fresh.filter(_nothing_since(standing, annotator=annotator)).select_related(*PARTS).first()
    if template is None:
        return None
    return copy_for(annotator, template=template, purpose=Pair.Purpose.GOLD)


def _next_repeat(standing: Standing, *, study: Study, annotator: User) -> Pair | None:
    """Return a copy of a pair that this person labelled a while ago, frozen meanwhile or not."""
    mine = Preference.objects.filter(
        _nothing_since(standing, annotator=annotator),
        ~Exists(Pair.objects.filter(original=OuterRef("pair"), reserved_for=annotator)),
        pk__in=_faded_labels(annotator),
        pair__study=study,
        pair__reserved_for__isnull=True,
    ).exclude(pair__state=Pair.State.WITHDRAWN)
    first = mine.select_related("pair", *(f"pair__{part}" for part in PARTS)).order_by("created_at").first()
    if first is None:
        return None
    return copy_for(annotator, template=first.pair, purpose=Pair.Purpose.REPEAT)


def _faded_labels(annotator: User) -> list[int]:
    """Return the latest labels but those still in memory: read apart, lest SQLite join them with all."""
    recent = Preference.objects.filter(annotator=annotator).order_by("-created_at")
    yesterday = timezone.now() - REPEAT_AFTER
    return [
        label_id
        for place, (label_id, made_at) in enumerate(recent.values_list("pk", "created_at")[:REPEAT_WINDOW])
        if place >= REPEAT_AFTER_LABELS or made_at < yesterday
    ]


def _nothing_since(standing: Standing, *, annotator: User) -> Q:
    """Hold when no check was made since the latest label: one draw makes one check, also after a skip."""
    made = Pair.objects.filter(reserved_for=annotator)
    if standing.latest_label_at is not None:
        made = made.filter(created_at__gt=standing.latest_label_at)
    return ~Q(Exists(made))

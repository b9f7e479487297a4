"""Pairs that check rather than collect: practice before the first real pair, gold pairs, and repeats.

All three are copies that one person judges. Practice comes once, in order, and is announced. Gold pairs and
repeats come unannounced among the real ones, each with its share of the pairs that a person gets: a hash of
the person and their latest label decides, so that asking again gives the same answer.
"""

import hashlib
from dataclasses import dataclass
from datetime import timedelta

from django.db import connection
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


_STANDING = f"""
SELECT id, is_paused, practice_done_at IS NOT NULL, COALESCE((
    SELECT label.id FROM {Preference._meta.db_table} label
    WHERE label.annotator_id = member.user_id ORDER BY label.created_at DESC LIMIT 1
), 0) FROM {Membership._meta.db_table} member WHERE member.study_id = %s AND member.user_id = %s
"""


@dataclass(frozen=True)
class Standing:
    """Where an annotator stands in a study: paused or not, practice over or not, latest label anywhere."""

    membership_id: int
    is_paused: bool
    practice_done: bool
    latest_label: int


def standing_of(*, study: Study, annotator: User) -> Standing | None:
    """Return where a member stands, by one statement; None for those who are not in the study."""
    with connection.cursor() as cursor:
        cursor.execute(_STANDING, [study.pk, annotator.pk])
        row = cursor.fetchone()
    if row is None:
        return None
    membership_id, is_paused, practice_done, latest_label = row
    return Standing(membership_id, bool(is_paused), bool(practice_done), latest_label)


def due_check(*, study: Study, annotator: User, standing: Standing | None) -> Pair | None:
    """Make the practice pair, gold pair or repeat that is due now, reserved for the annotator; None: none is.

    Usually `standing` alone says that none is; otherwise it costs two reads and one write at most, and none
    of it grows with the study. Simulated annotators are not checked: a rule always agrees with itself.
    """
    if standing is None or annotator.is_simulated:
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
    if standing.latest_label:
        latest = Preference.objects.filter(pk=standing.latest_label)
        made = made.filter(created_at__gt=Subquery(latest.values("created_at")))
    return ~Q(Exists(made))

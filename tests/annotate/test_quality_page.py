"""The quality page: who sees it, what it says, and that it costs the same however many labels there are."""

from __future__ import annotations

import uuid

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from annotate.models import Membership, Pair, Preference, Role, Side, Study, Verdict
from annotate.selectors.quality import study_quality
from annotate.services.checks import copy_for
from tests.annotate.check_world import configure, make_known
from tests.support.labelling import label, make_annotator, make_pair, make_pairs, make_study
from tests.support.people import client_of, member_client

pytestmark = pytest.mark.django_db


@pytest.fixture
def study() -> Study:
    return configure(make_study(labels_per_pair=2), practice_pairs=0, repeat_share=0.0)


def page(study: Study, role: Role = Role.LEAD) -> str:
    response = member_client(study, role).get(reverse("quality", args=[study.slug]))
    assert response.status_code == 200
    return response.content.decode()


def test_an_empty_study_says_why_each_figure_is_missing(study: Study) -> None:
    html = page(study)
    for reason in (
        "needs two people on the same pair; 0 pairs have that",
        "needs repeats; 0 were judged",
        "needs gold pairs; 0 were judged",
        "needs choices of a side; 0 were made",
        "Nobody has labelled yet.",
    ):
        assert reason in html


def test_agreement_counts_only_pairs_that_two_people_judged(study: Study) -> None:
    ana, ben = make_annotator(study, "ana"), make_annotator(study, "ben")
    for number, pair in enumerate(make_pairs(study, 10)):
        label(pair, ana, Verdict.A if number % 2 else Verdict.B)
        if number < 8:
            label(pair, ben, Verdict.B if number == 0 else Verdict.A)
    figures = study_quality(study).figures
    assert (figures.raw.hits, figures.raw.total) == (5, 8)
    assert figures.alpha.pairs == 8
    each = {line.user.username: line.figures for line in study_quality(study).annotators}
    assert (each["ana"].raw.hits, each["ana"].raw.total) == (5, 8)
    assert each["ana"].labels == 10


def test_votes_of_three_people_count_every_pair_of_votes(study: Study) -> None:
    study = configure(study, labels_per_pair=3)
    pair = make_pair(study)
    for name, verdict in (("ana", Verdict.A), ("ben", Verdict.A), ("cy", Verdict.B)):
        label(pair, make_annotator(study, name), verdict)
    quality = study_quality(study)
    assert (quality.figures.raw.hits, quality.figures.raw.total) == (1, 3)
    each = {line.user.username: line.figures.raw for line in quality.annotators}
    assert (each["ana"].hits, each["ana"].total) == (1, 2)
    assert (each["cy"].hits, each["cy"].total) == (0, 2)


def test_repeats_and_gold_have_figures_of_their_own_and_change_no_other(study: Study) -> None:
    ana = make_annotator(study, "ana")
    kept, turned, plain = make_pairs(study, 3)
    for pair in (kept, turned, plain):
        label(pair, ana, Verdict.A)
    label(copy_for(ana, template=kept, purpose=Pair.Purpose.REPEAT), ana, Verdict.A)
    label(copy_for(ana, template=turned, purpose=Pair.Purpose.REPEAT), ana, Verdict.B)
    for number, verdict in enumerate((Verdict.A, Verdict.A, Verdict.B)):
        gold = make_known(study, Pair.Purpose.GOLD, number=number)
        label(copy_for(ana, template=gold, purpose=Pair.Purpose.GOLD), ana, verdict)
    practice = make_known(study, Pair.Purpose.PRACTICE, number=9)
    label(copy_for(ana, template=practice, purpose=Pair.Purpose.PRACTICE), ana, Verdict.TIE)
    figures = study_quality(study).figures
    assert figures.labels == 3
    assert (figures.consistency.hits, figures.consistency.total) == (1, 2)
    assert (figures.same_side.hits, figures.same_side.total) == (1, 1)
    assert (figures.gold.hits, figures.gold.total) == (2, 3)
    assert (figures.ties.hits, figures.left.total) == (0, 3)
    assert figures.raw.total == 0


def test_left_and_longer_picks_go_by_what_was_shown_and_written(study: Study) -> None:
    ana = make_annotator(study, "ana")
    label(make_pair(study, texts=("short", "a longer text")), ana, Verdict.B, side=Side.B)
    label(make_pair(study, texts=("short", "a longer text")), ana, Verdict.A, side=Side.B)
    label(make_pair(study, texts=("equal", "alike")), ana, Verdict.A)
    figures = study_quality(study).figures
    assert (figures.left.hits, figures.left.total) == (2, 3)
    assert (figures.longer.hits, figures.longer.total) == (1, 2)


def test_the_median_leaves_labels_without_a_time_out(study: Study) -> None:
    ana = make_annotator(study, "ana")
    for pair, duration in zip(make_pairs(study, 4), (1000, None, 5000, 3000), strict=True):
        Preference.objects.filter(pk=label(pair, ana).pk).update(duration_ms=duration)
    figures = study_quality(study).figures
    assert (figures.median_seconds, figures.timed_labels) == (3.0, 3)


def many_labels(study: Study, *, pairs: int) -> None:
    """Write labels of two people on many pairs in bulk."""
    prompt = make_pair(study).prompt
    responses = list(prompt.responses.all())
    ana = make_annotator(study, f"ana-{pairs}")
    ben = make_annotator(study, f"ben-{pairs}")
    made = Pair.objects.bulk_create(
        Pair(
            study=study,
            prompt=prompt,
            response_a=responses[0],
            response_b=responses[1],
            slots_taken=2,
            labels_wanted=2,
        )
        for _ in range(pairs)
    )
    Preference.objects.bulk_create(
        Preference(
            pair=pair,
            annotator=person,
            verdict=("a", "b", "tie")[(number + (person == ben and number % 5 == 0)) % 3],
            shown_left="a",
            client_id=uuid.uuid4(),
        )
        for number, pair in enumerate(made)
        for person in (ana, ben)
    )


def test_the_page_asks_the_database_as_often_for_many_labels_as_for_few(study: Study) -> None:
    counts = []
    for pairs in (3, 3000):
        many_labels(study, pairs=pairs)
        with CaptureQueriesContext(connection) as queries:
            quality = study_quality(study)
        counts.append(len(queries))
    assert counts[0] == counts[1] <= 8
    assert quality.figures.raw.total == 3003
    assert quality.figures.alpha.value is not None
    assert 0.6 < quality.figures.alpha.value < 0.8


def test_viewers_read_the_page_and_annotators_do_not(study: Study) -> None:
    label(make_pair(study), make_annotator(study, "ana"))
    assert "ana" in page(study, Role.VIEWER)
    annotator = member_client(study, Role.ANNOTATOR, username="ben")
    assert annotator.get(reverse("quality", args=[study.slug])).status_code == 403


def test_somebody_who_left_is_still_on_the_page(study: Study) -> None:
    ana = make_annotator(study, "ana")
    label(make_pair(study), ana)
    Membership.objects.filter(user=ana).delete()
    assert "no longer a member" in page(study)
    assert client_of(ana).get(reverse("quality", args=[study.slug])).status_code == 404

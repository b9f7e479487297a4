"""What is kept of the votes on frozen pairs: every figure is the same as counting all votes, always."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from django.core.management.sql import emit_post_migrate_signal
from django.db import DEFAULT_DB_ALIAS, connection
from django.db.migrations.recorder import MigrationRecorder
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from annotate.models import FrozenVotes, Membership, Pair, Preference, Resolution, Role, Study, User, Verdict
from annotate.quality.vote_columns import CLASSES
from annotate.selectors.agreement import tally_rows
from annotate.selectors.frozen_votes import kept_votes
from annotate.selectors.preferences import label_usage
from annotate.selectors.quality import StudyQuality, figures_by_annotator, study_quality
from annotate.selectors.vote_columns import vote_columns
from annotate.selectors.votes import usage_of
from annotate.services.frozen_votes import keep_missing_votes
from annotate.services.pairs import freeze_batch
from annotate.services.resolutions import resolve_pair
from annotate.services.review import restore_pair
from tests.support.labelling import label, make_pair
from tests.support.people import member_client
from tests.support.voted_study import BATCHES, make_voted_study

pytestmark = pytest.mark.django_db


@pytest.fixture(params=[1, 2, 3])
def study(request: pytest.FixtureRequest) -> Study:
    return make_voted_study(seed=request.param, frozen=2)


def votes_one_by_one(study: Study) -> list[tuple[int, int, str]]:
    """Return pair, annotator and verdict of each vote on training pairs that were not withdrawn."""
    votes = Preference.objects.filter(pair__study=study, pair__purpose=Pair.Purpose.TRAIN)
    rows = votes.exclude(pair__state=Pair.State.WITHDRAWN)
    return sorted(rows.values_list("pair", "annotator", "verdict"))


def votes_in_columns(study: Study) -> list[tuple[int, int, str]]:
    columns = vote_columns(study=study)
    pairs, annotators = columns.pair_ids[columns.pairs].tolist(), columns.annotators.tolist()
    return sorted(
        (pair, annotator, CLASSES[verdict])
        for pair, annotator, verdict in zip(pairs, annotators, columns.verdicts.tolist(), strict=True)
    )


def quality_without_rows(study: Study) -> StudyQuality:
    """Return the figures as they are counted where nothing is kept."""
    kept = list(FrozenVotes.objects.all())
    FrozenVotes.objects.all().delete()
    try:
        return study_quality(study)
    finally:
        FrozenVotes.objects.bulk_create(kept)


def check_everything(study: Study) -> None:
    assert votes_in_columns(study) == votes_one_by_one(study)
    found = study_quality(study)
    assert found == quality_without_rows(study)
    assert found.figures.labels == sum(line.figures.labels for line in found.annotators)
    for batches in ([1], [1, 2], [1, 2, 3]):
        usage = label_usage(study=study, batches=batches)
        columns = vote_columns(study=study, batches=batches)
        assert usage_of(columns, pairs=usage.pairs) == usage


def test_freezing_keeps_the_votes_and_every_figure_stays_what_it_was() -> None:
    study = make_voted_study(seed=1)
    before, votes = study_quality(study), votes_in_columns(study)
    for batch in range(1, BATCHES + 1):
        freeze_batch(study=study, batch=batch)
    assert sorted(FrozenVotes.objects.values_list("batch", flat=True)) == [1, 2, 3]
    assert study_quality(study) == before
    assert votes_in_columns(study) == votes


def test_figures_are_those_of_counting_every_vote(study: Study) -> None:
    check_everything(study)
    figures = study_quality(study).figures
    given = Preference.objects.filter(pair__study=study)
    verdicts = Counter(given.values_list("verdict", flat=True))
    assert (figures.labels, figures.ties.hits, figures.both_bad.hits) == (
        given.count(),
        verdicts["tie"],
        verdicts["both_bad"],
    )


def test_what_is_kept_is_read_instead_of_the_votes(study: Study) -> None:
    row = FrozenVotes.objects.get(batch=1)
    labels = study_quality(study).figures.labels
    days = [[annotator, day, count + 100, *rest] for annotator, day, count, *rest in row.counts["days"][:1]]
    FrozenVotes.objects.filter(pk=row.pk).update(
        counts={**row.counts, "days": days + row.counts["days"][1:]}, votes=b""
    )
    assert study_quality(study).figures.labels == labels + 100
    assert 1 not in set(vote_columns(study=study).batches[vote_columns(study=study).pairs].tolist())


def test_a_pair_that_comes_back_into_a_frozen_delivery_counts_at_once(study: Study) -> None:
    lead = User.objects.get(memberships__study=study, memberships__role=Role.LEAD)
    back = Pair.objects.get(study=study, batch=1, state=Pair.State.WITHDRAWN)
    before = len(votes_in_columns(study))
    restore_pair(pair=back, actor=lead)
    check_everything(study)
    assert len(votes_in_columns(study)) == before + back.preferences.count()
    freeze_batch(study=study, batch=1)
    check_everything(study)
    assert FrozenVotes.objects.get(batch=1).pairs == 12


def test_who_is_left_out_and_what_a_lead_decides_counts_at_once(study: Study) -> None:
    lead = User.objects.get(memberships__study=study, memberships__role=Role.LEAD)
    ana = User.objects.get(username="ana")
    Membership.objects.filter(study=study, user=ana).update(in_training_sets=False)
    assert ana.pk not in vote_columns(study=study).annotators
    pair = Pair.objects.filter(study=study, batch=1, state=Pair.State.FROZEN, resolution=None).earliest("pk")
    resolve_pair(pair=pair, verdict=Verdict.B, note="", actor=lead)
    columns = vote_columns(study=study)
    assert columns.decisions[np.searchsorted(columns.pair_ids, pair.pk)] == CLASSES.index("b")
    for batches in ([1], [1, 2, 3]):
        usage = label_usage(study=study, batches=batches)
        assert usage_of(vote_columns(study=study, batches=batches), pairs=usage.pairs) == usage
    Resolution.objects.all().delete()
    assert (vote_columns(study=study).decisions < 0).all()


def test_a_row_about_another_number_of_frozen_pairs_is_not_used_and_made_anew(study: Study) -> None:
    late = make_pair(study, batch=1)
    label(late, User.objects.get(username="ana"))
    Pair.objects.filter(pk=late.pk).update(state=Pair.State.FROZEN)
    check_everything(study)
    keep_missing_votes()
    assert FrozenVotes.objects.get(batch=1).pairs == 12
    check_everything(study)


def test_deliveries_frozen_before_anything_was_kept_are_kept_after_an_update(study: Study) -> None:
    rows = {row.batch: (row.pairs, bytes(row.votes), row.counts) for row in FrozenVotes.objects.all()}
    FrozenVotes.objects.all().delete()
    check_everything(study)
    keep_missing_votes()
    assert {row.batch: (row.pairs, bytes(row.votes), row.counts) for row in FrozenVotes.objects.all()} == rows


def test_a_delivery_that_is_frozen_while_a_page_is_read_counts_on_it(study: Study) -> None:
    kept = kept_votes(study, column="counts")
    votes = Preference.objects.filter(kept.votes_elsewhere, pair__study=study)
    pairs = Pair.objects.filter(kept.pairs_elsewhere, study=study)
    before = (votes.count(), pairs.count(), sorted(map(repr, tally_rows(study, kept=kept))))
    freeze_batch(study=study, batch=3)
    assert (votes.count(), pairs.count(), sorted(map(repr, tally_rows(study, kept=kept)))) == before
    assert votes.filter(pair__batch=3).exists()


def test_a_migration_that_stops_half_way_touches_no_votes(study: Study) -> None:
    FrozenVotes.objects.all().delete()
    recorder = MigrationRecorder(connection)
    recorder.record_unapplied("annotate", "0008_preference_version")
    emit_post_migrate_signal(verbosity=0, interactive=False, db=DEFAULT_DB_ALIAS)
    assert not FrozenVotes.objects.exists()
    recorder.record_applied("annotate", "0008_preference_version")
    emit_post_migrate_signal(verbosity=0, interactive=False, db=DEFAULT_DB_ALIAS)
    assert FrozenVotes.objects.count() == 2


def test_people_have_the_same_figures_without_agreement_and_longer_picks(study: Study) -> None:
    quality = study_quality(study)
    users = [line.user.pk for line in quality.annotators]
    figures = figures_by_annotator(study, users=users)
    for line in quality.annotators:
        mine = figures[line.user.pk]
        assert replace(line.figures, agreement=mine.agreement, longer=mine.longer) == mine


@pytest.mark.parametrize(("page", "most"), [("quality", 12), ("people", 14)])
def test_a_page_costs_as_many_queries_with_one_frozen_delivery_as_with_three(page: str, most: int) -> None:
    study = make_voted_study(seed=1, frozen=1)
    client = member_client(study, Role.LEAD)

    def statements() -> int:
        with CaptureQueriesContext(connection) as captured:
            assert client.get(reverse(page, args=[study.slug])).status_code == 200
        return len(captured)

    few = statements()
    for batch in (2, 3):
        freeze_batch(study=study, batch=batch)
    assert statements() == few <= most

"""Counts of a study's labels: those on frozen pairs are kept, and the figures are never out of date."""

from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from annotate.models import FrozenVotes, Membership, Pair, Resolution, Role, Study, Verdict
from annotate.selectors.frozen_votes import KeptVotes, kept_votes
from annotate.selectors.preferences import label_usage
from annotate.services.members import set_in_training_sets
from annotate.services.pairs import freeze_batch
from annotate.services.studies import add_member
from tests.support.voted_study import make_voted_study
from tests.training.factories import make_study, make_user
from tests.training.loop import fill_round, label_round
from training.models import Policy, Round
from training.selectors import label_counts
from training.selectors.label_counts import LabelCounts, counted_labels, usage_until
from training.services.rounds import open_round

pytestmark = pytest.mark.django_db


@pytest.fixture
def study() -> Study:
    return make_study(train=4)


def frozen_round(study: Study, *verdicts: Verdict) -> Round:
    opened = open_round(study=study)
    fill_round(opened)
    label_round(opened, verdicts=verdicts)
    freeze_batch(study=study, batch=opened.number)
    Round.objects.filter(pk=opened.pk).update(state=Round.State.CLOSED)
    return opened


def one_by_one(study: Study, *, batch: int) -> LabelCounts:
    """Count a round's labels as one would by hand."""
    pairs = study.pairs.filter(batch=batch, purpose=Pair.Purpose.TRAIN).exclude(state=Pair.State.WITHDRAWN)
    verdicts = [vote.verdict for pair in pairs for vote in pair.preferences.all()]
    return LabelCounts(
        pairs=len(pairs),
        labels_wanted=sum(pair.labels_wanted for pair in pairs),
        **{verdict.value: verdicts.count(verdict) for verdict in Verdict},
    )


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("frozen", [0, 2, 3])
def test_counts_and_usage_are_those_of_counting_every_vote(seed: int, frozen: int) -> None:
    study = make_voted_study(seed=seed, frozen=frozen)
    policy = Policy.objects.create(study=study, number=0, served_name="reference")
    rounds = [
        Round.objects.create(study=study, number=number, sampled_policy=policy, state=Round.State.CLOSED)
        for number in (1, 2, 3)
    ]
    assert counted_labels(study, rounds=rounds) == {
        item.number: one_by_one(study, batch=item.number) for item in rounds
    }
    assert usage_until(study, rounds=rounds) == label_usage(study=study, batches=[1, 2, 3])
    ana = Membership.objects.get(study=study, user__username="ana")
    lead = Membership.objects.get(study=study, role=Role.LEAD).user
    set_in_training_sets(membership=ana, used=False, actor=lead)
    assert usage_until(study, rounds=rounds[:2]) == label_usage(study=study, batches=[1, 2])


def test_labels_of_a_frozen_round_are_read_from_where_they_are_kept(study: Study) -> None:
    item = frozen_round(study, Verdict.A, Verdict.B, Verdict.TIE)
    found = counted_labels(study, rounds=[item])[1]
    assert (found.labels, found.tie, found.labels_open) == (3, 1, 1)
    row = FrozenVotes.objects.get(study=study)
    FrozenVotes.objects.update(counts={**row.counts, "verdicts": {**row.counts["verdicts"], "a": 77}})
    assert counted_labels(study, rounds=[item])[1].a == 77


def test_a_round_that_takes_labels_is_counted_each_time(study: Study) -> None:
    opened = open_round(study=study)
    fill_round(opened)
    assert counted_labels(study, rounds=[opened])[1].labels == 0
    label_round(opened, verdicts=[Verdict.B])
    assert counted_labels(study, rounds=[opened])[1].b == 1
    assert not FrozenVotes.objects.exists()


def test_pairs_that_come_back_into_a_frozen_round_count_at_once(study: Study) -> None:
    item = frozen_round(study, Verdict.A, Verdict.B, Verdict.TIE)
    back = Pair.objects.filter(study=study, batch=1).earliest("pk")
    for state in (Pair.State.OPEN, Pair.State.WITHDRAWN, Pair.State.FROZEN):
        Pair.objects.filter(pk=back.pk).update(state=state)
        assert counted_labels(study, rounds=[item])[1] == one_by_one(study, batch=1)


@pytest.mark.parametrize("reads_before", [True, False])
def test_a_round_that_is_frozen_while_a_page_is_read_counts_on_it(
    study: Study, monkeypatch: pytest.MonkeyPatch, reads_before: bool
) -> None:
    opened = open_round(study=study)
    fill_round(opened)
    label_round(opened, verdicts=[Verdict.B])

    def freezing(study: Study, **named: Any) -> KeptVotes:
        before = kept_votes(study, **named)
        freeze_batch(study=study, batch=1)
        return before if reads_before else kept_votes(study, **named)

    monkeypatch.setattr(label_counts, "kept_votes", freezing)
    assert counted_labels(study, rounds=[opened])[1] == one_by_one(study, batch=1)


def test_leaving_somebody_out_shows_at_once_and_no_later_view_costs_more(study: Study) -> None:
    first = frozen_round(study, Verdict.A, Verdict.B)
    person = (
        Pair.objects.filter(batch=1, preferences__isnull=False).earliest("pk").preferences.get().annotator
    )
    member = add_member(study=study, user=person, role=Role.ANNOTATOR, actor=None)
    opened = open_round(study=study)
    fill_round(opened)
    label_round(opened, verdicts=[Verdict.A], annotator=make_user("other"))

    def view() -> tuple[int, int]:
        with CaptureQueriesContext(connection) as captured:
            usable = usage_until(study, rounds=[first, opened]).usable
        votes_read = sum("annotate_preference" in row["sql"] for row in captured)
        assert all("'frozen'" not in row["sql"] for row in captured if "annotate_preference" in row["sql"])
        return usable, votes_read

    assert view() == (3, 1)
    set_in_training_sets(membership=member, used=False, actor=make_user("lead"))
    assert view() == (1, 1)
    assert view() == (1, 1)
    set_in_training_sets(membership=member, used=True, actor=make_user("lead"))
    assert view() == (3, 1)


def test_what_a_training_set_makes_of_frozen_rounds_follows_a_leads_decision(study: Study) -> None:
    item = frozen_round(study, Verdict.A, Verdict.B)
    assert usage_until(study, rounds=[item]) == label_usage(study=study, batches=[1])
    Resolution.objects.create(pair=Pair.objects.filter(batch=1).earliest("pk"), left_out=True)
    assert usage_until(study, rounds=[item]).left_out == 1


def test_counting_takes_as_many_queries_for_any_number_of_rounds(study: Study) -> None:
    """Two of them are of the pairs that are not kept, where there are some."""
    rounds = [frozen_round(study, Verdict.A) for _ in range(3)]
    current = open_round(study=study)
    fill_round(current)
    for some, wanted in ((rounds[:1], 3), (rounds, 3), ([*rounds[:1], current], 5), ([*rounds, current], 5)):
        with CaptureQueriesContext(connection) as captured:
            counted_labels(study, rounds=some)
        assert len(captured) == wanted

"""Counts of labels that are kept once a round is frozen: the same as counting, and never out of date."""

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from annotate.models import Pair, Resolution, Study, Verdict
from annotate.selectors.preferences import label_usage
from annotate.services.pairs import freeze_batch
from tests.training.factories import make_study
from tests.training.loop import fill_round, label_round
from training.models import Round, RoundSummary
from training.selectors.label_counts import counted_labels, usage_until
from training.services.round_summaries import keep_round_summaries
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


def test_a_frozen_round_is_counted_once_and_then_read(study: Study) -> None:
    item = frozen_round(study, Verdict.A, Verdict.B, Verdict.TIE)
    first = counted_labels(study, rounds=[item])
    assert first.unkept == [item]
    assert (first.by_round[1].labels, first.by_round[1].tie, first.by_round[1].labels_open) == (3, 1, 1)
    keep_round_summaries(study, rounds=first.unkept)
    again = counted_labels(study, rounds=[item])
    assert again.unkept == []
    assert again.by_round == first.by_round
    RoundSummary.objects.update(values={**RoundSummary.objects.get().values, "counts": {"pairs": 4, "a": 77}})
    assert counted_labels(study, rounds=[item]).by_round[1].a == 77


def test_a_round_that_takes_labels_is_counted_each_time_and_kept_by_nobody(study: Study) -> None:
    opened = open_round(study=study)
    fill_round(opened)
    keep_round_summaries(study, rounds=[opened])
    assert not RoundSummary.objects.exists()
    assert counted_labels(study, rounds=[opened]).unkept == []
    label_round(opened, verdicts=[Verdict.B])
    assert counted_labels(study, rounds=[opened]).by_round[1].b == 1


def test_a_pair_that_comes_back_into_a_frozen_round_makes_it_count_again(study: Study) -> None:
    item = frozen_round(study, Verdict.A)
    keep_round_summaries(study, rounds=[item])
    pair = Pair.objects.filter(batch=1).latest("pk")
    Pair.objects.filter(pk=pair.pk).update(state=Pair.State.OPEN)
    RoundSummary.objects.update(values={"counts": {"pairs": 4, "a": 77}, "usage": {}})
    assert counted_labels(study, rounds=[item]).by_round[1].a == 1


def test_what_a_training_set_makes_of_kept_rounds_follows_a_leads_decision(study: Study) -> None:
    item = frozen_round(study, Verdict.A, Verdict.B)
    keep_round_summaries(study, rounds=[item])
    assert usage_until(study, rounds=[item]) == label_usage(study=study, batches=[1])
    Resolution.objects.create(pair=Pair.objects.filter(batch=1).earliest("pk"), left_out=True)
    assert usage_until(study, rounds=[item]).left_out == 1


def test_usage_of_kept_and_open_rounds_is_that_of_all_of_them(study: Study) -> None:
    first = frozen_round(study, Verdict.A, Verdict.TIE)
    keep_round_summaries(study, rounds=[first])
    second = open_round(study=study)
    fill_round(second)
    label_round(second, verdicts=[Verdict.B, Verdict.BOTH_BAD])
    assert usage_until(study, rounds=[first, second]) == label_usage(study=study, batches=[1, 2])


def test_counting_takes_three_queries_for_any_number_of_rounds(study: Study) -> None:
    rounds = [frozen_round(study, Verdict.A) for _ in range(3)]
    with CaptureQueriesContext(connection) as captured:
        counted_labels(study, rounds=rounds)
    assert len(captured) == 3

"""Reliability-weighted votes: known annotators are recovered, and little data degenerates into nothing."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from annotate.models import Membership, Pair, Preference, Study, User, Verdict
from annotate.quality.dawid_skene import Consensus, dawid_skene
from annotate.selectors.votes import pair_probabilities
from tests.support.labelling import label, make_annotator, make_pair, make_study

Votes = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]


def simulate(*, truth: NDArray[np.int64], reliability: list[float], classes: int, seed: int) -> Votes:
    """Let everybody judge every pair: right with their reliability, else one of the others at random."""
    random = np.random.default_rng(seed)
    pairs, annotators, verdicts = [], [], []
    for annotator, right in enumerate(reliability):
        wrong = (truth + random.integers(1, classes, size=len(truth))) % classes
        said = np.where(random.random(len(truth)) < right, truth, wrong)
        pairs.append(np.arange(len(truth)))
        annotators.append(np.full(len(truth), annotator))
        verdicts.append(said)
    return np.concatenate(pairs), np.concatenate(annotators), np.concatenate(verdicts)


def consensus_of(votes: Votes, *, classes: int) -> Consensus:
    return dawid_skene(pairs=votes[0], annotators=votes[1], verdicts=votes[2], classes=classes)


def majority(votes: Votes, *, classes: int, size: int) -> NDArray[np.int64]:
    counts = np.zeros((size, classes))
    np.add.at(counts, (votes[0], votes[2]), 1)
    best: NDArray[np.int64] = counts.argmax(axis=1)
    return best


@pytest.mark.parametrize("seed", range(5))
def test_annotators_of_known_reliability_are_recovered_and_beat_the_majority(seed: int) -> None:
    truth = np.random.default_rng(100 + seed).integers(0, 3, size=600)
    reliability = [0.95, 0.9, 0.5, 0.45, 0.4]
    votes = simulate(truth=truth, reliability=reliability, classes=3, seed=seed)
    consensus = consensus_of(votes, classes=3)
    assert consensus.converged
    assert consensus.reliability == pytest.approx(reliability, abs=0.08)
    right = (consensus.probabilities.argmax(axis=1) == truth).mean()
    by_majority = (majority(votes, classes=3, size=600) == truth).mean()
    assert right > by_majority + 0.03
    assert right > 0.93


def test_probabilities_are_calibrated() -> None:
    truth = np.random.default_rng(7).integers(0, 2, size=4000)
    consensus = consensus_of(
        simulate(truth=truth, reliability=[0.8, 0.7, 0.65], classes=2, seed=8), classes=2
    )
    says_one = consensus.probabilities[:, 1]
    for low, high in ((0.0, 0.25), (0.25, 0.5), (0.5, 0.75), (0.75, 1.0)):
        inside = (says_one >= low) & (says_one < high)
        if inside.sum() > 100:
            assert truth[inside].mean() == pytest.approx(says_one[inside].mean(), abs=0.08)


def test_one_annotator_and_one_vote_leave_doubt() -> None:
    alone = consensus_of(
        (np.arange(40), np.zeros(40, dtype=np.int64), np.zeros(40, dtype=np.int64)), classes=4
    )
    assert np.isfinite(alone.probabilities).all()
    single = consensus_of((np.array([0]), np.array([0]), np.array([2])), classes=4)
    assert single.probabilities[0].argmax() == 2
    assert 0.5 < single.probabilities[0, 2] < 0.97


def test_rows_are_probabilities_and_the_order_of_votes_does_not_matter() -> None:
    truth = np.random.default_rng(1).integers(0, 4, size=80)
    votes = simulate(truth=truth, reliability=[0.8, 0.6], classes=4, seed=2)
    consensus = consensus_of(votes, classes=4)
    assert consensus.probabilities.sum(axis=1) == pytest.approx(np.ones(80))
    assert consensus.confusion.sum(axis=2) == pytest.approx(np.ones((2, 4)))
    order = np.random.default_rng(3).permutation(len(votes[0]))
    shuffled = consensus_of((votes[0][order], votes[1][order], votes[2][order]), classes=4)
    assert shuffled.probabilities == pytest.approx(consensus.probabilities)


def test_no_votes_are_refused() -> None:
    nothing = np.array([], dtype=np.int64)
    with pytest.raises(ValueError, match="at least one vote"):
        consensus_of((nothing, nothing, nothing), classes=2)


@pytest.fixture
def study(db: None) -> Study:
    return make_study(labels_per_pair=3)


def vote(pair: Pair, study: Study, **verdicts: Verdict) -> None:
    for name, verdict in verdicts.items():
        known = User.objects.filter(username=name).first()
        label(pair, known or make_annotator(study, name), verdict)


def test_each_pair_has_the_plain_share_beside_the_weighted_p(study: Study) -> None:
    first, second = make_pair(study), make_pair(study)
    vote(first, study, ana=Verdict.A, ben=Verdict.A, cy=Verdict.B)
    vote(second, study, ana=Verdict.TIE, ben=Verdict.BOTH_BAD)
    Preference.objects.filter(pair=first).update(strength=2)
    Preference.objects.filter(pair=first, annotator__username="cy").update(strength=None)
    one, two = pair_probabilities(study=study)
    assert (one.pair_id, one.votes, one.a, one.b, one.ties) == (first.pk, 3, 2, 1, 0)
    assert one.share_a == pytest.approx(2 / 3)
    assert one.p > 0.5
    assert one.strength == 2
    assert (two.share_a, two.p, two.strength) == (0.5, 0.5, None)
    assert two.tie > 0.5
    assert 0 < two.both_bad < two.tie


def test_votes_of_people_who_are_left_out_do_not_count(study: Study) -> None:
    pair = make_pair(study)
    vote(pair, study, ana=Verdict.A, ben=Verdict.B)
    Membership.objects.filter(user__username="ben").update(in_training_sets=False)
    (found,) = pair_probabilities(study=study)
    assert (found.votes, found.share_a) == (1, 1.0)


def test_a_study_without_votes_has_no_probabilities(study: Study) -> None:
    make_pair(study)
    assert pair_probabilities(study=study) == []

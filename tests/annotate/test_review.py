"""Review: leads see and decide, annotators never see what colleagues said, everything can be undone."""

from __future__ import annotations

import pytest
from django.test import Client
from django.urls import reverse

from annotate.models import (
    AuditEntry,
    Flag,
    Lease,
    Membership,
    Pair,
    Preference,
    QueueCursor,
    Resolution,
    Role,
    Study,
    User,
    Verdict,
)
from annotate.selectors.conflicts import ReviewFilter, review_ids
from annotate.selectors.preferences import label_usage
from annotate.services.preferences import skip_pair
from annotate.services.queue import lease_next_pair
from annotate.services.studies import add_member
from tests.annotate.check_world import configure, make_known
from tests.support.labelling import (
    assert_slots_add_up,
    label,
    make_annotator,
    make_pair,
    make_pairs,
    make_study,
    make_user,
    next_pair,
)
from tests.support.people import client_of, member_client

pytestmark = pytest.mark.django_db
SECRET = "The colleague's own reason"


@pytest.fixture
def study() -> Study:
    return configure(make_study(labels_per_pair=2), practice_pairs=0, repeat_share=0.0)


@pytest.fixture
def lead_user(study: Study) -> User:
    return User.objects.get(memberships__study=study, memberships__role=Role.LEAD)


@pytest.fixture
def lead(lead_user: User) -> Client:
    return client_of(lead_user)


def conflict(study: Study) -> Pair:
    pair = make_pair(study)
    for name, verdict in (("ana", Verdict.A), ("ben", Verdict.B)):
        person = User.objects.filter(username=name).first() or make_annotator(study, name)
        Preference.objects.filter(pk=label(pair, person, verdict).pk).update(rationale=f"{SECRET}, {name}")
    return pair


def ids(study: Study, kind: str, *, batch: str = "", annotator: str = "", reason: str = "") -> list[int]:
    return review_ids(study, wanted=ReviewFilter(kind, batch=batch, annotator=annotator, reason=reason))


def post(client: Client, study: Study, name: str, number: int, **data: str):  # type: ignore[no-untyped-def]
    return client.post(reverse(name, args=[study.slug, number]), data)


def test_leads_see_colleagues_labels_and_annotators_never_do(study: Study, lead: Client) -> None:
    """Complaint 12 of other tools' users: reviewers cannot see labels, or annotators can."""
    pair = conflict(study)
    own = make_pair(study)
    cy = make_annotator(study, "cy")
    label(own, cy)
    seen = lead.get(reverse("review-pair", args=[study.slug, pair.pk])).content.decode()
    assert f"{SECRET.replace(chr(39), '&#x27;')}, ana" in seen
    assert "ben" in seen
    annotator = client_of(cy)
    for name in ("review", "quality", "people", "checks", "guidelines-versions"):
        assert annotator.get(reverse(name, args=[study.slug])).status_code == 403, name
    assert annotator.get(reverse("review-pair", args=[study.slug, pair.pk])).status_code == 403
    for url in (
        reverse("label", args=[study.slug]),
        reverse("history", args=[study.slug]),
        reverse("history-pair", args=[study.slug, pair.pk]),
        reverse("home"),
    ):
        html = annotator.get(url, follow=True).content.decode()
        assert "The colleague" not in html, url
        assert "ben" not in html, url


def test_labels_of_a_rule_are_marked_on_the_page_of_their_pair(study: Study, lead: Client) -> None:
    pair = make_pair(study)
    rule = make_user("coin", simulated_rule="coin toss")
    add_member(study=study, user=rule, role=Role.ANNOTATOR, actor=None)
    label(pair, rule)
    label(pair, make_annotator(study, "ana"))
    html = lead.get(reverse("review-pair", args=[study.slug, pair.pk])).content.decode()
    votes = html.partition("Labels of this pair")[2].partition("</ul>")[0].split("<li>")[1:]
    marked = [vote for vote in votes if "simulated · rule coin toss" in vote]
    assert len(votes) == 2
    assert len(marked) == 1
    assert rule.display_name in marked[0]


def test_viewers_read_the_review_and_change_nothing(study: Study) -> None:
    pair = conflict(study)
    viewer = member_client(study, Role.VIEWER)
    html = viewer.get(reverse("review-pair", args=[study.slug, pair.pk])).content.decode()
    assert "ana" in html
    assert "<button" not in html.partition("<main")[2]
    assert post(viewer, study, "pair-resolve", pair.pk, decision="a").status_code == 403
    assert not Resolution.objects.exists()


def test_conflicts_are_pairs_whose_leading_verdicts_tie(study: Study) -> None:
    study = configure(study, labels_per_pair=3)
    tied = conflict(study)
    decided, agreed = conflict(study), make_pair(study)
    label(decided, make_annotator(study, "cy"), Verdict.B)
    for name in ("ana", "ben"):
        label(agreed, User.objects.get(username=name), Verdict.TIE)
    assert ids(study, "conflicts") == [tied.pk]
    assert ids(study, "disagreements") == [tied.pk, decided.pk]
    assert ids(study, "disagreements", annotator=str(User.objects.get(username="cy").pk)) == [decided.pk]
    assert ids(study, "conflicts", batch="2") == []


def test_a_decision_goes_before_the_votes_leads_on_and_can_be_taken_back(study: Study, lead: Client) -> None:
    first, second = conflict(study), conflict(study)
    response = post(lead, study, "pair-resolve", first.pk, decision="b", note="B follows the form.")
    assert response["Location"].startswith(reverse("review-pair", args=[study.slug, second.pk]))
    assert ids(study, "conflicts") == [second.pk]
    assert ids(study, "decided") == [first.pk]
    assert label_usage(study=study).usable == 1
    assert AuditEntry.objects.get(action="pair.resolved").details == {"pair": first.pk, "verdict": "b"}
    post(lead, study, "pair-resolve", second.pk, decision="left_out")
    assert (label_usage(study=study).left_out, label_usage(study=study).conflicting) == (1, 0)
    post(lead, study, "pair-unresolve", first.pk)
    assert ids(study, "conflicts") == [first.pk]
    assert label_usage(study=study).usable == 0
    assert AuditEntry.objects.get(action="pair.unresolved").details["was"] == "b"


def test_a_decision_without_a_choice_is_refused(study: Study, lead: Client) -> None:
    pair = conflict(study)
    html = lead.post(reverse("pair-resolve", args=[study.slug, pair.pk]), follow=True).content.decode()
    assert "Choose a verdict, or leave the pair out." in html
    assert not Resolution.objects.exists()


def test_a_check_is_shown_without_anything_to_decide(study: Study, lead: Client) -> None:
    known = make_known(study, Pair.Purpose.GOLD)
    html = lead.get(reverse("review-pair", args=[study.slug, known.pk])).content.decode()
    assert "there is nothing to decide" in html
    assert "data-decide" not in html
    assert reverse("pair-make-known", args=[study.slug, known.pk]) not in html


def test_a_flag_is_answered_and_reopened(study: Study, lead: Client) -> None:
    pair = conflict(study)
    ana = User.objects.get(username="ana")
    flag = Flag.objects.create(pair=pair, annotator=ana, reason=Flag.Reason.HARMFUL, note="Ugly words")
    assert ids(study, "flags") == [pair.pk]
    assert ids(study, "flags", reason="private") == []
    post(lead, study, "flag-answer", flag.pk, answer="Thank you, it is out.")
    flag.refresh_from_db()
    assert flag.answer == "Thank you, it is out."
    assert flag.resolved_by is not None
    assert ids(study, "flags") == []
    post(lead, study, "flag-reopen", flag.pk)
    assert ids(study, "flags") == [pair.pk]


def test_a_withdrawn_pair_leaves_the_queue_and_comes_back_to_people_who_went_past_it(
    study: Study, lead: Client
) -> None:
    study = configure(study, labels_per_pair=1)
    pairs = make_pairs(study, 3)
    ana = make_annotator(study, "ana")
    leased = next_pair(study, ana).pair
    post(lead, study, "pair-withdraw", leased.pk)
    assert not Lease.objects.exists()
    others = {next_pair(study, ana).pair.pk for _ in range(1)}
    assert leased.pk not in others
    while (shown := lease_next_pair(study=study, annotator=ana)) is not None:
        label(shown.pair, ana, side=shown.left_side)
    assert Preference.objects.count() == len(pairs) - 1
    places = list(QueueCursor.objects.order_by("pk").values_list("pk", "order_key"))
    post(lead, study, "pair-restore", leased.pk)
    assert list(QueueCursor.objects.order_by("pk").values_list("pk", "order_key")) == places
    assert next_pair(study, ana).pair == leased
    assert_slots_add_up(study)


def test_a_frozen_pair_cannot_be_withdrawn(study: Study, lead: Client) -> None:
    pair = conflict(study)
    Pair.objects.filter(pk=pair.pk).update(state=Pair.State.FROZEN)
    url = reverse("pair-withdraw", args=[study.slug, pair.pk])
    assert "Leave it out instead" in lead.post(url, follow=True).content.decode()
    pair.refresh_from_db()
    assert pair.state == Pair.State.FROZEN


def test_pairs_that_everybody_passed_on_wait_for_the_lead(study: Study) -> None:
    pair = make_pair(study)
    ana, ben = make_annotator(study, "ana"), make_annotator(study, "ben")
    skip_pair(pair=pair, annotator=ana)
    assert ids(study, "skipped") == []
    label(pair, ben)
    assert ids(study, "skipped") == [pair.pk]
    make_annotator(study, "cy")
    assert ids(study, "skipped") == []


def test_a_pair_becomes_a_gold_pair_with_its_explanation(study: Study, lead: Client) -> None:
    pair = conflict(study)
    data = {"purpose": "gold", "verdict": "a", "explanation": "A is right."}
    post(lead, study, "pair-make-known", pair.pk, **data)
    template = Pair.objects.get(original=pair)
    assert (template.purpose, template.labels_wanted) == (Pair.Purpose.GOLD, 0)
    assert template.known_answer.explanation == "A is right."
    again = reverse("pair-make-known", args=[study.slug, pair.pk])
    assert "is a gold pair already" in lead.post(again, data, follow=True).content.decode()


def test_a_held_pair_is_released_or_handed_to_somebody_who_gets_it_next(study: Study, lead: Client) -> None:
    study = configure(study, labels_per_pair=1)
    make_pairs(study, 3)
    ana, ben = make_annotator(study, "ana"), make_annotator(study, "ben")
    pair = next_pair(study, ana).pair
    post(lead, study, "lease-reassign", Lease.objects.get().pk, to=str(ben.pk))
    assert Lease.objects.get().annotator == ben
    assert next_pair(study, ben).pair == pair
    assert_slots_add_up(study)
    post(lead, study, "lease-release", Lease.objects.get().pk)
    assert not Lease.objects.exists()
    assert_slots_add_up(study)
    actions = set(AuditEntry.objects.values_list("action", flat=True))
    assert {"lease.reassigned", "lease.released"} <= actions


@pytest.mark.parametrize("why", ["judged", "skipped", "paused", "viewer"])
def test_a_pair_is_not_handed_to_somebody_who_cannot_have_it(study: Study, lead: Client, why: str) -> None:
    pair = make_pair(study)
    ana, ben = make_annotator(study, "ana"), make_annotator(study, "ben")
    if why == "judged":
        label(pair, ben)
    if why == "skipped":
        skip_pair(pair=pair, annotator=ben)
    member = Membership.objects.filter(user=ben)
    if why == "paused":
        member.update(is_paused=True)
    if why == "viewer":
        member.update(role=Role.VIEWER)
    next_pair(study, ana)
    url = reverse("lease-reassign", args=[study.slug, Lease.objects.get().pk])
    html = lead.post(url, {"to": str(ben.pk)}, follow=True).content.decode()
    assert "notice-error" in html
    assert Lease.objects.get().annotator == ana

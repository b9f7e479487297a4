"""The labelling screen over HTTP: with the page's script (htmx header) and without JavaScript."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from annotate.models import Lease, Preference, Role, Skip, Study, Verdict
from annotate.services.pairs import freeze_batch
from annotate.services.queue import release_expired_leases
from tests.support.labelling import (
    assert_slots_add_up,
    label,
    make_annotator,
    make_pair,
    make_pairs,
    make_prompt,
    make_user,
    next_pair,
)
from tests.support.people import (
    SCRIPT,
    client_of,
    fresh_judgement,
    judge,
    judge_url,
    judgement,
    member_client,
    page,
    shown_pair,
)

pytestmark = pytest.mark.django_db


def test_the_page_shows_prompt_and_both_responses_under_neutral_names(client: Client, study: Study) -> None:
    make_pair(
        study, prompt=make_prompt(study, "What is *this*?"), texts=("one **bold**", "two"), was_cut=True
    )
    html = page(client, study)
    for part in ("<em>this</em>", "<strong>bold</strong>", "two", "cut at the length limit", "Both are bad"):
        assert part in html
    assert html.count('class="pane pane-') == 2


@pytest.mark.parametrize("side", ["left", "right"])
def test_what_the_screen_calls_a_is_the_left_pane(client: Client, study: Study, side: str) -> None:
    pair = make_pair(study)
    html = page(client, study)
    left = Lease.objects.get().left_side
    response = judge(client, study, html, side)
    assert response.status_code == 200
    preference = Preference.objects.get(pair=pair)
    shown_there = left if side == "left" else {"a": "b", "b": "a"}[left]
    assert preference.verdict == shown_there
    assert preference.shown_left == left


@pytest.mark.parametrize("verdict", ["tie", "both_bad"])
def test_verdicts_without_a_side_stay_what_they_are(client: Client, study: Study, verdict: str) -> None:
    make_pair(study)
    judge(client, study, page(client, study), verdict, duration_ms="1234")
    preference = Preference.objects.get()
    assert (preference.verdict, preference.duration_ms) == (verdict, 1234)


def test_verdicts_that_the_study_does_not_offer_are_not_shown_and_refused(
    client: Client, study: Study
) -> None:
    make_pair(study)
    Study.objects.update(allow_tie=False, allow_both_bad=False)
    html = page(client, study)
    assert 'value="tie"' not in html
    assert 'value="both_bad"' not in html
    response = judge(client, study, html, "tie")
    assert response.status_code == 409
    assert "does not offer “Tie”" in response.content.decode()
    assert not Preference.objects.exists()


def test_the_answer_to_a_label_is_the_pair_after_the_one_shown_meanwhile(
    client: Client, study: Study
) -> None:
    make_pairs(study, 3)
    first = page(client, study)
    ahead = client.get(
        reverse("label-next", args=[study.slug]), {"after": shown_pair(first)}
    ).content.decode()
    assert shown_pair(ahead) != shown_pair(first)
    answer = judge(client, study, first, ahead=str(shown_pair(ahead)))
    third = shown_pair(answer.content.decode())
    assert third not in (shown_pair(first), shown_pair(ahead))
    assert shown_pair(page(client, study)) == shown_pair(ahead)
    assert_slots_add_up(study)


def test_nothing_ahead_is_an_empty_answer(client: Client, study: Study) -> None:
    make_pair(study)
    html = page(client, study)
    response = client.get(reverse("label-next", args=[study.slug]), {"after": shown_pair(html)})
    assert (response.status_code, response.content) == (204, b"")


@pytest.mark.parametrize("after", ["x", "-1", "9" * 40, ""])
def test_a_strange_pair_to_look_beyond_is_no_pair(client: Client, study: Study, after: str) -> None:
    make_pair(study)
    assert client.get(reverse("label-next", args=[study.slug]), {"after": after}).status_code == 200


def test_without_javascript_a_label_is_a_redirect_with_a_word(client: Client, study: Study) -> None:
    make_pairs(study, 2)
    html = page(client, study)
    response = client.post(judge_url(study, shown_pair(html)), judgement(html), follow=True)
    assert response.redirect_chain == [(reverse("label", args=[study.slug]), 302)]
    assert "Saved." in response.content.decode()
    assert shown_pair(response.content.decode()) != shown_pair(html)


def test_without_javascript_a_problem_is_said_on_the_page(client: Client, study: Study) -> None:
    make_pair(study)
    html = page(client, study)
    data = {key: value for key, value in judgement(html).items() if key != "verdict"}
    response = client.post(judge_url(study, shown_pair(html)), data, follow=True)
    assert "Choose A, B, Tie or Both are bad first." in response.content.decode()
    assert not Preference.objects.exists()


def test_a_double_submit_over_http_is_one_label(client: Client, study: Study) -> None:
    make_pair(study)
    html = page(client, study)
    for _ in range(2):
        assert judge(client, study, html).status_code == 200
    assert Preference.objects.count() == 1


def test_two_tabs_show_the_same_pair_and_the_second_label_is_refused(client: Client, study: Study) -> None:
    make_pairs(study, 2)
    one, other = page(client, study), page(client, study)
    assert shown_pair(one) == shown_pair(other)
    judge(client, study, one, "tie")
    response = client.post(judge_url(study, shown_pair(other)), fresh_judgement(other), headers=SCRIPT)
    assert response.status_code == 409
    assert "labelled this pair already" in response.content.decode()
    label_that_stands = reverse("history-pair", args=[study.slug, shown_pair(one)])
    assert f'data-label="{label_that_stands}"' in response.content.decode()
    assert shown_pair(response.content.decode()) != shown_pair(one)
    assert Preference.objects.get().verdict == Verdict.TIE
    assert_slots_add_up(study)


def test_a_label_on_a_frozen_round_is_refused_with_the_next_pair(client: Client, study: Study) -> None:
    make_pair(study, batch=1)
    later = make_pair(study, batch=2, priority=-1)
    html = page(client, study)
    freeze_batch(study=study, batch=1)
    response = judge(client, study, html)
    assert response.status_code == 409
    answer = response.content.decode()
    assert "labels of this round are frozen" in answer
    assert shown_pair(answer) == later.pk


def expire_and_release() -> None:
    Lease.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    release_expired_leases(timezone.now())


def test_a_label_after_the_lease_ran_out_is_taken_with_the_sides_that_were_shown(
    client: Client, study: Study
) -> None:
    make_pair(study)
    html = page(client, study)
    left = Lease.objects.get().left_side
    expire_and_release()
    assert judge(client, study, html, "left").status_code == 200
    assert Preference.objects.get().verdict == left
    assert_slots_add_up(study)


def test_a_label_whose_pair_went_to_a_colleague_is_refused_clearly(client: Client, study: Study) -> None:
    make_pair(study)
    html = page(client, study)
    expire_and_release()
    next_pair(study, make_annotator(study, "ben"))
    response = judge(client, study, html)
    assert response.status_code == 409
    assert "a colleague has it now" in response.content.decode()
    assert not Preference.objects.exists()


@pytest.mark.parametrize(
    "changes",
    [
        {"verdict": "a"},
        {"verdict": ""},
        {"client_id": "x"},
        {"shown": ""},
        {"shown": "0" * 64},
        {"duration_ms": "-1"},
    ],
)
def test_a_broken_form_is_refused_and_writes_nothing(
    client: Client, study: Study, changes: dict[str, str]
) -> None:
    make_pair(study)
    html = page(client, study)
    response = client.post(judge_url(study, shown_pair(html)), {**judgement(html), **changes}, headers=SCRIPT)
    assert response.status_code == 400
    assert "data-problem" in response.content.decode()
    assert not Preference.objects.exists()


def test_the_form_of_a_colleague_does_not_work(client: Client, study: Study) -> None:
    Study.objects.update(labels_per_pair=2)
    study.refresh_from_db()
    make_pair(study)
    colleagues = page(member_client(study, Role.ANNOTATOR), study)
    page(client, study)
    assert judge(client, study, colleagues).status_code == 400


def test_skip_passes_on_and_undo_brings_back(client: Client, study: Study) -> None:
    make_pairs(study, 2)
    html = page(client, study)
    url = reverse("label-skip", args=[study.slug, shown_pair(html)])
    answer = client.post(url, headers=SCRIPT).content.decode()
    assert shown_pair(answer) != shown_pair(html)
    assert Skip.objects.count() == 1
    undone = client.post(reverse("label-undo", args=[study.slug]), headers=SCRIPT).content.decode()
    assert shown_pair(undone) == shown_pair(html)
    assert not Skip.objects.exists()


def test_undo_brings_the_pair_back_on_the_same_sides_without_a_verdict(client: Client, study: Study) -> None:
    make_pairs(study, 3)
    html = page(client, study)
    judge(client, study, html)
    undone = client.post(reverse("label-undo", args=[study.slug]), headers=SCRIPT).content.decode()
    assert shown_pair(undone) == shown_pair(html)
    assert judgement(undone)["shown"] == judgement(html)["shown"]
    assert judgement(undone)["client_id"] != judgement(html)["client_id"]
    assert " checked" not in undone
    assert not Preference.objects.exists()


def test_undo_without_anything_to_undo_says_so(client: Client, study: Study) -> None:
    response = client.post(reverse("label-undo", args=[study.slug]), headers=SCRIPT)
    assert response.status_code == 409
    assert "nothing to undo" in response.content.decode()
    followed = client.post(reverse("label-undo", args=[study.slug]), follow=True)
    assert "nothing to undo" in followed.content.decode()


def test_undo_without_javascript_is_a_redirect_to_the_pair(client: Client, study: Study) -> None:
    make_pairs(study, 2)
    html = page(client, study)
    judge(client, study, html)
    response = client.post(reverse("label-undo", args=[study.slug]), follow=True)
    assert shown_pair(response.content.decode()) == shown_pair(html)


def test_a_long_conversation_is_folded_and_a_short_one_is_not(client: Client, study: Study) -> None:
    def chat(words: int) -> list[dict[str, str]]:
        return [
            {"role": "user", "content": "Hello " * words},
            {"role": "assistant", "content": "Hi."},
            {"role": "user", "content": "And now?"},
        ]

    make_pair(study, prompt=make_prompt(study, messages=chat(1)), priority=1)
    make_pair(study, prompt=make_prompt(study, messages=chat(200)))
    short = page(client, study)
    assert '<details class="turns"' not in short
    long = judge(client, study, short).content.decode()
    assert '<details class="turns"' in long
    assert "2 earlier messages" in long
    assert "And now?" in long


def test_a_simulated_account_is_told_apart_on_its_screen(study: Study) -> None:
    from annotate.services.studies import add_member

    robot = make_user("robot", simulated_rule="shorter")
    add_member(study=study, user=robot, role=Role.ANNOTATOR, actor=None)
    make_pair(study)
    assert "simulated · rule shorter (fewest words)" in page(client_of(robot), study)


def test_nothing_on_the_screen_tells_who_wrote_what_or_how_others_judged(
    client: Client, study: Study
) -> None:
    Study.objects.update(labels_per_pair=2)
    study.refresh_from_db()
    pair = make_pair(study)
    label(pair, make_annotator(study, "benjamin"), Verdict.B)
    html = page(client, study)
    assert "benjamin" not in html
    assert f'"{pair.response_a_id}"' not in html.split("<article")[1].replace(f'"{pair.pk}"', "")
    assert "policy" not in html.lower()

"""The commands that scripts of other people rely on, and the export over HTTP."""

from __future__ import annotations

import io
import json
import uuid
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command
from django.test import Client
from django.urls import reverse

from annotate.models import (
    Flag,
    Pair,
    Preference,
    Prompt,
    Resolution,
    Role,
    Side,
    Split,
    Study,
    User,
    Verdict,
)
from annotate.selectors.preferences import label_progress, label_usage, labelled_pairs
from annotate.services.editing import Edit
from annotate.services.preferences import record_preference
from tests.support.labelling import (
    assert_slots_add_up,
    label,
    make_annotator,
    make_pair,
    make_prompt,
    make_study,
    make_user,
)
from tests.support.people import client_of, member_client, outsider_client

pytestmark = pytest.mark.django_db


@pytest.fixture
def study() -> Study:
    return make_study()


def run(*arguments: object) -> str:
    out = io.StringIO()
    call_command(*[str(argument) for argument in arguments], stdout=out)
    return out.getvalue()


def test_import_prompts_by_slug_and_by_name(study: Study, tmp_path: Path) -> None:
    file = tmp_path / "p.jsonl"
    file.write_text('{"prompt": "a"}\n{"prompt": "b", "split": "heldout"}\n')
    out = run("import_prompts", study.slug, file, "--heldout-share", "0")
    assert "2 prompts imported: 1 to train on, 1 held out; 0 duplicates" in out
    assert "0 prompts imported" in run("import_prompts", study.name, file)


def test_import_prompts_names_the_lines_and_writes_nothing(study: Study, tmp_path: Path) -> None:
    file = tmp_path / "p.jsonl"
    file.write_text('{"prompt": "a"}\n' + "x\n" * 25)
    with pytest.raises(CommandError, match=r"(?s)25 lines are wrong.*line 2: This is not JSON.*and 5 more"):
        run("import_prompts", study.slug, file)
    assert not Prompt.objects.exists()


@pytest.mark.parametrize(
    "command", ["import_prompts none FILE", "simulate_labels none --rule shorter --annotator x"]
)
def test_a_study_that_is_not_there_is_named_with_those_that_are(study: Study, command: str) -> None:
    with pytest.raises(CommandError, match=r"no study 'none'. Studies: kind-answers"):
        run(*command.split())


def test_import_prompts_of_a_missing_file_or_a_wrong_share_says_so(study: Study, tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="cannot be read"):
        run("import_prompts", study.slug, tmp_path / "none.jsonl")
    file = tmp_path / "p.jsonl"
    file.write_text('{"prompt": "a"}\n')
    with pytest.raises(CommandError, match="heldout share"):
        run("import_prompts", study.slug, file, "--heldout-share", "1.5")


def test_simulate_labels_follows_the_rule_and_marks_the_labels(study: Study) -> None:
    short_first = make_pair(study, texts=("one", "one two three"))
    short_second = make_pair(study, texts=("one two three", "one"))
    equal = make_pair(study, texts=("one two", "two one"))
    out = run("simulate_labels", study.slug, "--rule", "shorter", "--annotator", "robot")
    assert "3 pairs labelled" in out
    verdicts = dict(Preference.objects.values_list("pair", "verdict"))
    assert verdicts == {short_first.pk: "a", short_second.pk: "b", equal.pk: "tie"}
    assert set(Preference.objects.values_list("simulated_rule", flat=True)) == {"shorter"}
    robot = User.objects.get(username="robot")
    assert robot.is_simulated
    assert robot.memberships.get().role == Role.ANNOTATOR
    assert_slots_add_up(study)


def test_simulate_labels_stops_at_its_limit_and_goes_on_later(study: Study) -> None:
    for _ in range(4):
        make_pair(study)
    run("simulate_labels", study.slug, "--rule", "longer", "--annotator", "robot", "--limit", "3")
    assert Preference.objects.count() == 3
    run("simulate_labels", study.slug, "--rule", "longer", "--annotator", "robot")
    assert Preference.objects.count() == 4
    assert set(Preference.objects.values_list("verdict", flat=True)) == {"b"}


def test_simulate_labels_skips_ties_where_the_study_has_none(study: Study) -> None:
    Study.objects.update(allow_tie=False)
    make_pair(study, texts=("one two", "two one"))
    assert "1 skipped" in run("simulate_labels", study.slug, "--rule", "shorter", "--annotator", "robot")
    assert not Preference.objects.exists()


def test_simulate_labels_never_labels_in_the_name_of_a_person(study: Study) -> None:
    make_annotator(study, "ana")
    make_user("robot", simulated_rule="longer")
    make_pair(study)
    with pytest.raises(CommandError, match="ana is a person's account"):
        run("simulate_labels", study.slug, "--rule", "shorter", "--annotator", "ana")
    with pytest.raises(CommandError, match="robot labels by the rule “longer”"):
        run("simulate_labels", study.slug, "--rule", "shorter", "--annotator", "robot")
    with pytest.raises(CommandError, match="--limit = 0"):
        run("simulate_labels", study.slug, "--rule", "shorter", "--annotator", "r2", "--limit", "0")
    assert not Preference.objects.exists()


def furnish(study: Study) -> None:
    """One pair of each kind; only the first two are for a trainer."""
    ana = make_annotator(study)
    chat = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Grüße?"}]
    label(make_pair(study, prompt=make_prompt(study, messages=chat), texts=("good", "bad")), ana, Verdict.A)
    label(make_pair(study, texts=("worse", "better")), ana, Verdict.B)
    label(make_pair(study), ana, Verdict.TIE)
    label(make_pair(study), ana, Verdict.BOTH_BAD)
    label(make_pair(study, purpose=Pair.Purpose.EVALUATE), ana, Verdict.A)
    label(make_pair(study, prompt=make_prompt(study, "held out", split=Split.HELDOUT)), ana, Verdict.A)
    withdrawn = label(make_pair(study), ana, Verdict.A).pair
    Pair.objects.filter(pk=withdrawn.pk).update(state=Pair.State.WITHDRAWN)
    label(make_pair(make_study(name="Other")), ana, Verdict.A)


EXPORTED = [
    {
        "prompt": [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Grüße?"}],
        "chosen": [{"role": "assistant", "content": "good"}],
        "rejected": [{"role": "assistant", "content": "bad"}],
    },
    {
        "prompt": [{"role": "user", "content": "Question number 2?"}],
        "chosen": [{"role": "assistant", "content": "better"}],
        "rejected": [{"role": "assistant", "content": "worse"}],
    },
]


def test_export_preferences_is_trls_conversational_format_of_train_pairs_only(
    study: Study, tmp_path: Path
) -> None:
    furnish(study)
    out = run("export_preferences", study.slug, "--format", "trl")
    assert [json.loads(line) for line in out.splitlines()] == EXPORTED
    file = tmp_path / "out.jsonl"
    run("export_preferences", study.slug, "--format", "trl", "--output", file)
    assert file.read_text(encoding="utf-8") == out


def test_export_preferences_tells_where_each_came_from_when_asked(study: Study) -> None:
    furnish(study)
    record = json.loads(run("export_preferences", study.slug, "--metadata").splitlines()[0])
    assert record["metadata"]["annotator"] == "ana"
    assert record["metadata"]["simulated_rule"] == ""


def test_export_metadata_holds_all_that_was_said_of_a_pair(study: Study) -> None:
    Study.objects.update(ask_strength=True)
    ana = make_annotator(study, "ana")
    pair = make_pair(study, texts=("first", "second"))
    preference = record_preference(
        pair=pair,
        annotator=ana,
        verdict=Verdict.B,
        client_id=uuid.uuid4(),
        shown_left=Side.B,
        duration_ms=4200,
        strength=3,
        rationale="B is kinder.",
        edit=Edit(side=Side.A, text="first, improved"),
    )
    Flag.objects.create(pair=pair, annotator=ana, reason=Flag.Reason.OTHER, note="odd")
    Resolution.objects.create(pair=pair, verdict=Verdict.A)
    metadata = json.loads(run("export_preferences", study.slug, "--metadata"))["metadata"]
    assert metadata == {
        "pair": pair.pk,
        "batch": 1,
        "purpose": "train",
        "prompt_id": "",
        "annotator": "ana",
        "simulated_rule": "",
        "verdict": "b",
        "strength": 3,
        "rationale": "B is kinder.",
        "edited_side": "a",
        "edited_text": "first, improved",
        "flags": [{"reason": "other", "note": "odd"}],
        "decision": "a",
        "shown_left": "b",
        "duration_ms": 4200,
        "guidelines_version": 1,
        "created_at": preference.created_at.isoformat(),
    }


def test_export_preferences_to_a_place_that_is_not_there_says_so(study: Study, tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="cannot be written"):
        run("export_preferences", study.slug, "--output", tmp_path / "no" / "out.jsonl")


def test_the_export_over_http_streams_the_same_lines_to_leads_only(study: Study) -> None:
    furnish(study)
    url = reverse("export-preferences", args=[study.slug])
    response = client_of(User.objects.get(memberships__study=study, memberships__role=Role.LEAD)).get(url)
    assert response.streaming
    assert "attachment" in response["Content-Disposition"]
    lines = response.getvalue().decode().splitlines()
    assert [json.loads(line) for line in lines] == EXPORTED
    for role in (Role.VIEWER, Role.ANNOTATOR):
        assert member_client(study, role).get(url).status_code == 403
    assert outsider_client().get(url).status_code == 404
    assert Client().get(url).status_code == 302


def test_votes_for_training_are_of_train_prompts_only_and_keep_everybody(study: Study) -> None:
    Study.objects.update(labels_per_pair=2)
    study.refresh_from_db()
    furnish(study)
    first = Pair.objects.filter(study=study).order_by("pk")[0]
    label(first, make_annotator(study, "ben"), Verdict.B)
    votes = list(labelled_pairs(study=study))
    assert len(votes) == 4
    assert [vote.verdict for vote in votes[0].votes] == [Verdict.A, Verdict.B]
    assert all(pair_votes.pair.prompt.split == Split.TRAIN for pair_votes in votes)
    assert list(labelled_pairs(study=study, batches=[99])) == []
    usage = label_usage(study=study)
    assert (usage.pairs, usage.usable, usage.tied, usage.both_bad, usage.conflicting) == (4, 1, 1, 1, 1)


def test_label_progress_counts_one_delivery(study: Study) -> None:
    furnish(study)
    label(make_pair(study, batch=2), make_user("robot", simulated_rule="shorter"), Verdict.B)
    first, second = label_progress(study=study, batch=1), label_progress(study=study, batch=2)
    assert (first.pairs, first.labels_wanted, first.labels) == (4, 4, 4)
    assert (first.a, first.b, first.tie, first.both_bad, first.simulated) == (1, 1, 1, 1, 0)
    assert (second.pairs, second.labels, second.b, second.simulated) == (1, 1, 1, 1)
    assert label_progress(study=study, batch=3).labels_wanted == 0

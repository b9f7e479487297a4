"""A study of any size for measuring: `python -m benchmarks.web.study --pairs 100000 --annotators 20`.

Works on the database of STUDIO_HOME or DATABASE_URL and prints, as JSON, what the clients need. The pairs
share a pool of prompts and responses; every pair is a row of its own, written by one statement.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import uuid
from dataclasses import dataclass

import django

POOL_OF_PROMPTS = 5_000
RESPONSES_PER_PROMPT = 4


@dataclass(frozen=True)
class BenchmarkStudy:
    """Where to label and as whom: one session key for each annotator."""

    study_id: int
    slug: str
    pairs: int
    judged: int
    sessions: tuple[str, ...]
    annotators: tuple[int, ...]

    def to_json(self) -> str:
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def from_json(cls, text: str) -> BenchmarkStudy:
        fields = json.loads(text)
        return cls(
            **{**fields, "sessions": tuple(fields["sessions"]), "annotators": tuple(fields["annotators"])}
        )


def build_study(
    *, pairs: int, annotators: int, overlap: int, judged: int, lease_seconds: int, repeats: float | None
) -> BenchmarkStudy:
    """Make a study in which the first annotator has labelled the first `judged` pairs of the queue."""
    from django.db import connection, transaction

    from annotate.models import Role, Study, User
    from annotate.services.studies import add_member, create_study

    lead = User.objects.filter(username="bench-lead").first() or User.objects.create_user("bench-lead")
    study = create_study(
        name=f"{pairs} pairs, {judged} judged, {uuid.uuid4().hex[:6]}",
        lead=lead,
        guidelines="Prefer what helps.",
        labels_per_pair=overlap,
    )
    share = study.repeat_share if repeats is None else repeats
    Study.objects.filter(pk=study.pk).update(lease_seconds=lease_seconds, repeat_share=share)
    people = []
    for number in range(annotators):
        name = f"bench-{study.pk}-{number}"
        people.append(User.objects.create_user(name))
        add_member(study=study, user=people[-1], role=Role.ANNOTATOR, actor=None)
    with transaction.atomic(), connection.cursor() as cursor:
        prompts = _write_texts(study, pairs=pairs)
        _write_pairs(cursor, study_id=study.pk, prompts=prompts, pairs=pairs, overlap=overlap)
        _write_labels(cursor, study_id=study.pk, annotator_id=people[0].pk, judged=judged, pairs=pairs)
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")
    sessions = tuple(_session_of(person) for person in people)
    ids = tuple(person.pk for person in people)
    return BenchmarkStudy(study.pk, study.slug, pairs, judged, sessions, ids)


def _write_texts(study: object, *, pairs: int) -> tuple[int, int, int]:
    """Write the pool; returns how many prompts it has, and the first ids of prompts and responses."""
    from annotate.models import Prompt, Response
    from benchmarks.web.texts import prompt_text, response_text

    count = min(POOL_OF_PROMPTS, pairs)
    prompts = Prompt.objects.bulk_create(
        Prompt(
            study=study,  # type: ignore[misc]
            messages=[{"role": "user", "content": prompt_text(number)}],
            split="train",
            content_hash=f"{number:064x}",
            position=number,
        )
        for number in range(count)
    )
    responses = Response.objects.bulk_create(
        (
            Response(prompt=prompt, text=response_text(place * RESPONSES_PER_PROMPT + number))
            for place, prompt in enumerate(prompts)
            for number in range(RESPONSES_PER_PROMPT)
        ),
        batch_size=5_000,
    )
    return count, prompts[0].pk, responses[0].pk


_NUMBERS = """
WITH RECURSIVE number(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM number WHERE n + 1 < %(pairs)s)
"""


def _write_pairs(
    cursor: object, *, study_id: int, prompts: tuple[int, int, int], pairs: int, overlap: int
) -> None:
    """Write the pairs; the ids of a pool were given in one statement, so that they follow each other."""
    count, first_prompt, first_response = prompts
    values = {
        "study": study_id,
        "pairs": pairs,
        "overlap": overlap,
        "count": count,
        "prompt": first_prompt,
        "response": first_response,
        "per": RESPONSES_PER_PROMPT,
    }
    # 0.6180… times n, modulo 1, spreads evenly whatever the number of pairs.
    cursor.execute(  # type: ignore[attr-defined]
        f"""{_insert_head()}
        SELECT %(study)s, %(prompt)s + n %% %(count)s,
            %(response)s + (n %% %(count)s) * %(per)s + (n / %(count)s) %% 3,
            %(response)s + (n %% %(count)s) * %(per)s + (n / %(count)s) %% 3 + 1,
            'train', 1, 'open', %(overlap)s, 0, 0,
            n * 0.618033988749895 - FLOOR(n * 0.618033988749895), CURRENT_TIMESTAMP
        FROM number""",
        values,
    )


def _insert_head() -> str:
    columns = (
        "study_id, prompt_id, response_a_id, response_b_id, purpose, batch, state, labels_wanted, "
        "slots_taken, priority, order_key, created_at"
    )
    return f"INSERT INTO annotate_pair ({columns}) {_NUMBERS}"


def _write_labels(cursor: object, *, study_id: int, annotator_id: int, judged: int, pairs: int) -> None:
    """Let one annotator have labelled the first `judged` pairs, each of which wants another label."""
    if not judged:
        return
    from django.db import connection

    random_id = "gen_random_uuid()" if connection.vendor == "postgresql" else "LOWER(HEX(RANDOMBLOB(16)))"
    values = {"study": study_id, "annotator": annotator_id, "limit": judged / pairs}
    which = "study_id = %(study)s AND order_key < %(limit)s"
    for label in (
        f"""INSERT INTO annotate_preference (pair_id, annotator_id, client_id, verdict, rationale, shown_left,
            edited_side, guidelines_version, simulated_rule, created_at, updated_at)
        SELECT id, %(annotator)s, {random_id}, 'a', '', 'a', '', 1, '', CURRENT_TIMESTAMP, CURRENT_TIMESTAMP
        FROM annotate_pair WHERE {which}""",
        f"UPDATE annotate_pair SET slots_taken = slots_taken + 1 WHERE {which}",
    ):
        cursor.execute(label, values)  # type: ignore[attr-defined]


def _session_of(person: object) -> str:
    from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
    from django.contrib.sessions.backends.db import SessionStore

    session = SessionStore()
    session[SESSION_KEY] = str(person.pk)  # type: ignore[attr-defined]
    session[BACKEND_SESSION_KEY] = "annotate.signed_in.AccountBackend"
    session[HASH_SESSION_KEY] = person.get_session_auth_hash()  # type: ignore[attr-defined]
    session.create()
    return str(session.session_key)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, required=True)
    parser.add_argument("--annotators", type=int, default=20)
    parser.add_argument("--overlap", type=int, default=1)
    parser.add_argument("--judged", type=int, default=0)
    parser.add_argument("--lease-seconds", type=int, default=900)
    parser.add_argument("--repeats", type=float, help="share of repeats; without it, the product's")
    options = parser.parse_args()
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "dpo_studio.settings")
    django.setup()
    print(build_study(**vars(options)).to_json())


if __name__ == "__main__":
    main()

"""The number of database statements of one label: `python -m benchmarks.web.queries SLUG`."""

from __future__ import annotations

import os
import sys
import uuid

import django

from benchmarks.web.client import FIELD, PAIR

LABELS_BEFORE = 5


def statements_of_a_label(slug: str) -> int:
    """Label a few pairs of the study as its first annotator, and count what the last one takes."""
    from django.contrib.auth import get_user_model
    from django.db import connection
    from django.test import Client
    from django.test.utils import CaptureQueriesContext

    people = get_user_model().objects.filter(memberships__study__slug=slug, memberships__role="annotator")
    client = Client(headers={"host": "127.0.0.1"})
    client.force_login(people.order_by("pk")[0], backend="annotate.signed_in.AccountBackend")
    html = client.get(f"/studies/{slug}/label/").content
    for _ in range(LABELS_BEFORE):
        pair, shown = PAIR.search(html), dict(FIELD.findall(html))[b"shown"].decode()
        assert pair is not None
        form = {"client_id": str(uuid.uuid4()), "shown": shown, "verdict": "left"}
        with CaptureQueriesContext(connection) as statements:
            answer = client.post(
                f"/studies/{slug}/pairs/{int(pair[1])}/judge/", form, headers={"HX-Request": "true"}
            )
        assert answer.status_code == 200, answer.content
        html = answer.content
    return len(statements)


if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "dpo_studio.settings")
    django.setup()
    print(statements_of_a_label(sys.argv[1]))

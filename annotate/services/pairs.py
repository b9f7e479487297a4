"""Responses and pairs coming in, and a delivery of pairs being frozen. Whoever samples calls these."""

import hashlib

from django.db import transaction
from django.db.models import Count, IntegerField, OuterRef, Subquery
from django.db.models.functions import Coalesce

from annotate.models import Lease, Pair, Preference, Prompt, Response, Study
from annotate.services.frozen_votes import keep_frozen_votes
from annotate.services.locks import lock_pairs, lock_queue
from annotate.services.slots import place_of_new_pair


def add_response(*, prompt: Prompt, text: str, was_cut: bool) -> Response:
    """Store what was answered to a prompt; `was_cut` says that the length limit ended it."""
    return Response.objects.create(prompt=prompt, text=text, was_cut=was_cut)


def add_pair(
    *,
    prompt: Prompt,
    response_a: Response,
    response_b: Response,
    batch: int,
    purpose: Pair.Purpose = Pair.Purpose.TRAIN,
    priority: int = 0,
) -> Pair:
    """Put two responses to a prompt into the queue, to be judged by as many annotators as the study wants."""
    if {response_a.prompt_id, response_b.prompt_id} != {prompt.pk}:
        raise ValueError(f"the responses of a pair must answer its prompt {prompt.pk}")
    study = prompt.study
    key = order_key(prompt=prompt, batch=batch)
    with transaction.atomic():
        lock_queue(study.pk)
        return Pair.objects.create(
            study=study,
            prompt=prompt,
            response_a=response_a,
            response_b=response_b,
            batch=batch,
            purpose=purpose,
            priority=priority,
            labels_wanted=study.labels_per_pair,
            order_key=place_of_new_pair(key, study_id=study.pk, priority=priority),
        )


def order_key(*, prompt: Prompt, batch: int) -> float:
    """A place in [0, 1) that mixes kinds of prompts and is the same whatever order the responses came in."""
    digest = hashlib.sha256(f"{prompt.content_hash}:{batch}".encode()).digest()
    return int.from_bytes(digest[:6], "big") / 2**48


def freeze_batch(*, study: Study, batch: int) -> int:
    """Let no more labels onto a delivery: OPEN becomes FROZEN, leases go, votes are kept as they are now.

    Returns how many froze.
    """
    with transaction.atomic():
        open_pairs = Pair.objects.filter(study=study, batch=batch, state=Pair.State.OPEN)
        lock_pairs(open_pairs)
        Lease.objects.filter(pair__study=study, pair__batch=batch).delete()
        labels = (
            Preference.objects.filter(pair=OuterRef("pk")).order_by().values("pair").annotate(n=Count("pk"))
        )
        taken = Coalesce(Subquery(labels.values("n"), output_field=IntegerField()), 0)
        frozen = open_pairs.update(state=Pair.State.FROZEN, slots_taken=taken)
        keep_frozen_votes(study, batches=[batch])
    return frozen

"""From a trial to the labelling queue: two answers become a train pair of the round that collects."""

from __future__ import annotations

import json
from collections.abc import Sequence

from django.db import transaction
from django.db.models import Max

from annotate.models import Pair, Prompt, Response, Split, Study, User
from annotate.services.audit import record_audit
from annotate.services.pairs import add_pair, add_response
from annotate.services.prompts import import_prompts
from training.models import Job, Round, SampledResponse, Trial, TrialAnswer
from training.services.slots import differ
from training.services.trials import TrialRefused
from training.serving.client import Message

TAG = "tried"


def queue_refusal(trial: Trial) -> str:
    """Return why no pair of this trial can be labelled now, or nothing."""
    try:
        collecting_round(trial.study)
        check_prompt(trial, prompt=known_prompt(trial))
    except TrialRefused as refusal:
        return str(refusal)
    return ""


def queue_pair(*, trial: Trial, answers: Sequence[TrialAnswer], actor: User) -> Pair:
    """Put two answers into the labelling queue as a train pair of the round that collects.

    The text becomes a train prompt of the study; each answer keeps its policy, settings, tokens and
    log-probs. Raises TrialRefused.
    """
    first, second = checked_answers(answers)
    with transaction.atomic():
        study = Study.objects.select_for_update(no_key=True).get(pk=trial.study_id)
        opened = collecting_round(study)
        known = known_prompt(trial)
        check_prompt(trial, prompt=known)
        check_sampled(known, round=opened)
        prompt = known or new_prompt(trial, study=study, actor=actor)
        check_new(first, second)
        pair = add_pair(
            prompt=prompt,
            response_a=stored_response(first, trial=trial, prompt=prompt, round=opened),
            response_b=stored_response(second, trial=trial, prompt=prompt, round=opened),
            batch=opened.number,
        )
        details = {"trial": trial.pk, "pair": pair.pk, "round": opened.number, "prompt": prompt.pk}
        record_audit(study=study, actor=actor, action="trial.pair_queued", details=details)
    return pair


def checked_answers(answers: Sequence[TrialAnswer]) -> tuple[TrialAnswer, TrialAnswer]:
    """Return the two answers, both whole and different. Raises TrialRefused."""
    if len(answers) != 2:
        raise TrialRefused(f"A pair is made of two answers, and {len(answers)} are picked.")
    for answer in answers:
        if answer.state != TrialAnswer.State.DONE or not answer.token_ids:
            raise TrialRefused(
                f"The answer of {answer.policy.label} is {answer.get_state_display().lower()}, not whole; "
                "only answers that ended by themselves or at the length limit can be learned from."
            )
    first, second = answers
    if not differ(first.text, second.text):
        raise TrialRefused("The two answers are the same; there is nothing to choose between.")
    return first, second


def check_new(first: TrialAnswer, second: TrialAnswer) -> None:
    responses = {first.response_id, second.response_id} - {None}
    pairs = Pair.objects.filter(response_a__in=responses, response_b__in=responses)
    if len(responses) == 2 and pairs.exists():
        raise TrialRefused("These two answers are in the labelling queue already.")


def collecting_round(study: Study) -> Round:
    """Return the round that takes pairs. Raises TrialRefused."""
    if study.state != Study.State.ACTIVE:
        raise TrialRefused(f"{study.name} is {study.get_state_display().lower()}; it takes no pairs.")
    opened = Round.objects.filter(study=study, state=Round.State.COLLECTING).first()
    if opened is None:
        raise TrialRefused("No round is collecting, so there is no queue for a pair; open a round first.")
    return opened


def known_prompt(trial: Trial) -> Prompt | None:
    return Prompt.objects.filter(study=trial.study_id, content_hash=trial.content_hash).first()


def check_prompt(trial: Trial, *, prompt: Prompt | None) -> None:
    """Raise TrialRefused when training on this chat would give away what policies are measured on."""
    if prompt is not None and prompt.split == Split.CHECK:
        raise TrialRefused(
            "This text belongs to a gold or practice pair; it cannot be labelled as training data."
        )
    heldout = Prompt.objects.filter(study=trial.study_id, split=Split.HELDOUT)
    sought = plain_chat(trial.messages)
    for other in heldout.only("messages", "external_id", "position"):
        if plain_chat(other.messages) == sought:
            name = other.external_id or f"Prompt {other.position + 1}"
            raise TrialRefused(
                f"This text is the held-out prompt {name}: learning from it would make every comparison on "
                "it worthless. Write another text to label."
            )


def plain_chat(messages: Sequence[Message]) -> list[tuple[str, str]]:
    """Return a chat without case and spacing, so that a stray blank does not make it another one."""
    return [(message["role"], " ".join(str(message["content"]).split()).casefold()) for message in messages]


def check_sampled(prompt: Prompt | None, *, round: Round) -> None:
    """Raise TrialRefused while the round still samples this very prompt: its own pair comes first."""
    if prompt is None:
        return
    sampling = Job.objects.filter(round=round, kind=Job.Kind.SAMPLING)
    wanted = round.samples_per_prompt
    filled = SampledResponse.objects.filter(round=round, prompt=prompt, slot__lt=wanted).count()
    if filled < wanted and any(job.is_active for job in sampling):
        raise TrialRefused(f"Round {round.number} is still sampling this prompt; try again in a minute.")


def new_prompt(trial: Trial, *, study: Study, actor: User) -> Prompt:
    """Add the chat to the study's train prompts, as an import of one line."""
    line = json.dumps({"messages": trial.messages, "split": Split.TRAIN.value, "tags": [TAG]})
    import_prompts(study=study, lines=[line.encode()], heldout_share=0.0, actor=actor)
    return Prompt.objects.select_related("study").get(study=study, content_hash=trial.content_hash)


def stored_response(answer: TrialAnswer, *, trial: Trial, prompt: Prompt, round: Round) -> Response:
    """Return the answer as a response with its provenance; one that is in the queue already is used again."""
    if answer.response is not None:
        return answer.response
    cut = answer.finish_reason == "length"
    response = add_response(prompt=prompt, text=answer.text, was_cut=cut)
    last = SampledResponse.objects.filter(prompt=prompt, round=round).aggregate(last=Max("slot"))["last"]
    SampledResponse.objects.create(
        response=response,
        prompt=prompt,
        policy=answer.policy,
        round=round,
        slot=0 if last is None else last + 1,
        settings=trial.sampling,
        prompt_token_ids=answer.prompt_token_ids,
        token_ids=answer.token_ids,
        logprobs=answer.logprobs,
        finish_reason=answer.finish_reason,
    )
    answer.response = response
    answer.save(update_fields=["response"])
    return response

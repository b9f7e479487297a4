"""Policies side by side on the held-out prompts."""

from collections import defaultdict
from dataclasses import dataclass, replace
from typing import Any

from django.core.paginator import Page, Paginator
from django.db.models import QuerySet
from django.utils.safestring import SafeString

from annotate.models import Prompt, Split, Study
from annotate.word_diff import changed_share, word_diff
from training.models import Job, Policy, SampledResponse, Score
from training.selectors.compare_figures import PolicyFigures, policy_figures
from training.selectors.job_rows import JobRow, job_rows
from training.selectors.json_length import JsonLength

ROWS_PER_PAGE = 15
MOST_COLUMNS = 6
COLUMNS_AT_FIRST = 4


@dataclass(frozen=True)
class CompareQuery:
    """What a visitor asked to see. Policies are named by their numbers, so that a link stays readable."""

    policies: tuple[int, ...] = ()
    before: int | None = None
    after: int | None = None
    with_diff: bool = True
    sample: int = 1
    order: str = "changed"
    tag: str = ""
    text: str = ""
    page: int = 1


@dataclass(frozen=True)
class Answer:
    """One policy's response to one prompt; `text` is None while it has not been sampled."""

    policy: Policy
    text: str | None = None
    tokens: int = 0
    was_cut: bool = False
    reward: float | None = None
    diff: SafeString | None = None


@dataclass(frozen=True)
class CompareRow:
    """A held-out prompt with one answer a column; `change` is the share of words that differ, or None."""

    prompt: Prompt
    answers: list[Answer]
    change: float | None
    diff_is_too_long: bool = False


@dataclass(frozen=True)
class Note:
    """What is under way or went wrong with a policy's held-out responses or scores."""

    text: str
    is_failure: bool
    round_number: int | None


@dataclass(frozen=True)
class Comparison:
    query: CompareQuery
    policies: list[Policy]
    columns: list[PolicyFigures]
    before: Policy | None
    after: Policy | None
    rows: list[CompareRow]
    page: Page[Prompt]
    tags: list[str]
    samples: int
    heldout_prompts: int
    prompts_in_figures: int
    notes: list[Note]

    @property
    def column_policies(self) -> list[Policy]:
        return [column.policy for column in self.columns]

    @property
    def sample_numbers(self) -> range:
        return range(1, self.samples + 1)

    @property
    def has_responses(self) -> bool:
        return any(column.responses for column in self.columns)

    @property
    def empty_sentence(self) -> str:
        if self.notes:
            return "The first responses appear here as they come."
        return "Open round 1 to sample the SFT reference on the held-out prompts."


def comparison(study: Study, *, query: CompareQuery) -> Comparison:
    """Return one page of the comparison, in a fixed number of queries."""
    policies = list(study.policies.select_related("run").order_by("number"))
    columns = chosen_columns(policies, numbers=query.policies)
    before, after = compared_pair(columns, before=query.before, after=query.after)
    heldout = list(study.prompts.filter(split=Split.HELDOUT).order_by("position", "pk"))
    tagged = [prompt for prompt in heldout if not query.tag or query.tag in prompt.tags]
    texts = sampled_texts(study, policies=columns, sample=query.sample)
    changes = changes_between(texts, before=before, after=after)
    found = [prompt for prompt in tagged if mentions(prompt, texts=texts, wanted=query.text)]
    page = Paginator(in_order(found, changes=changes, order=query.order), ROWS_PER_PAGE).get_page(query.page)
    figures = policy_figures(
        study,
        policies=columns,
        prompts=None if tagged == heldout else tagged,
        texts=texts,
        beta=study.recipe.beta,
    )
    rows = compare_rows(page.object_list, columns=columns, changes=changes, query=query, beta=betas(figures))
    return Comparison(
        query=query,
        policies=policies,
        columns=figures,
        before=before,
        after=after,
        rows=[with_diff(row, before=before, after=after) if query.with_diff else row for row in rows],
        page=page,
        tags=sorted({tag for prompt in heldout for tag in prompt.tags}),
        samples=max([1, *(column.samples for column in figures)]),
        heldout_prompts=len(heldout),
        prompts_in_figures=len(tagged),
        notes=notes(study),
    )


def chosen_columns(policies: list[Policy], *, numbers: tuple[int, ...]) -> list[Policy]:
    """Return the policies asked for; at first the SFT reference and the newest ones."""
    chosen = [policy for policy in policies if policy.number in numbers]
    if chosen:
        return chosen[:MOST_COLUMNS]
    return policies if len(policies) <= COLUMNS_AT_FIRST else policies[:1] + policies[1 - COLUMNS_AT_FIRST :]


def compared_pair(
    columns: list[Policy], *, before: int | None, after: int | None
) -> tuple[Policy | None, Policy | None]:
    """Return the two columns whose words are compared; the first and the last where none are named."""
    if len(columns) < 2:
        return None, None
    by_number: dict[int | None, Policy] = {policy.number: policy for policy in columns}
    return by_number.get(before, columns[0]), by_number.get(after, columns[-1])


def heldout_samples(study: Study, *, policies: list[Policy]) -> QuerySet[SampledResponse]:
    return SampledResponse.objects.filter(
        policy__in=policies, round=None, prompt__study=study, prompt__split=Split.HELDOUT
    )


def sampled_texts(study: Study, *, policies: list[Policy], sample: int) -> dict[int, dict[int, str]]:
    """Return the text of the given sample by policy id and prompt id."""
    rows = heldout_samples(study, policies=policies).filter(slot=sample - 1)
    texts: dict[int, dict[int, str]] = defaultdict(dict)
    for policy, prompt, text in rows.values_list("policy", "prompt", "response__text"):
        texts[policy][prompt] = text
    return texts


def changes_between(
    texts: dict[int, dict[int, str]], *, before: Policy | None, after: Policy | None
) -> dict[int, float]:
    if before is None or after is None:
        return {}
    texts_before, texts_after = texts.get(before.pk, {}), texts.get(after.pk, {})
    return {
        prompt: changed_share(texts_before[prompt], texts_after[prompt])
        for prompt in texts_before.keys() & texts_after.keys()
    }


def mentions(prompt: Prompt, *, texts: dict[int, dict[int, str]], wanted: str) -> bool:
    """Return whether the prompt, its id or one of the shown answers contains the text, whatever its case."""
    sought = wanted.strip().casefold()
    if not sought:
        return True
    places = [prompt.external_id, *(str(message["content"]) for message in prompt.messages)]
    places += [by_prompt.get(prompt.pk, "") for by_prompt in texts.values()]
    return any(sought in place.casefold() for place in places)


def in_order(prompts: list[Prompt], *, changes: dict[int, float], order: str) -> list[Prompt]:
    if order != "changed":
        return prompts
    return sorted(prompts, key=lambda prompt: -changes.get(prompt.pk, -1.0))


def betas(figures: list[PolicyFigures]) -> dict[int, float]:
    return {column.policy.pk: column.beta for column in figures}


def compare_rows(
    prompts: Any,
    *,
    columns: list[Policy],
    changes: dict[int, float],
    query: CompareQuery,
    beta: dict[int, float],
) -> list[CompareRow]:
    answers = page_answers(list(prompts), columns=columns, sample=query.sample, beta=beta)
    return [
        CompareRow(
            prompt=prompt,
            answers=[answers.get((prompt.pk, policy.pk), Answer(policy=policy)) for policy in columns],
            change=changes.get(prompt.pk),
        )
        for prompt in prompts
    ]


def page_answers(
    prompts: list[Prompt], *, columns: list[Policy], sample: int, beta: dict[int, float]
) -> dict[tuple[int, int], Answer]:
    """Return the answers of a page by (prompt id, policy id): two queries."""
    sampled = (
        SampledResponse.objects.filter(prompt__in=prompts, policy__in=columns, round=None, slot=sample - 1)
        .select_related("response", "policy")
        .defer("prompt_token_ids", "token_ids", "logprobs", "settings")
        .annotate(tokens=JsonLength("token_ids"))
    )
    found = list(sampled)
    scores = {
        score.sampled_id: score
        for score in Score.objects.filter(sampled__in=found).select_related("sampled")
        if score.policy_id == score.sampled.policy_id
    }
    return {
        (item.prompt_id, item.policy_id): answer(item, score=scores.get(item.pk), beta=beta) for item in found
    }


def answer(item: SampledResponse, *, score: Score | None, beta: dict[int, float]) -> Answer:
    return Answer(
        policy=item.policy,
        text=item.response.text,
        tokens=item.tokens,  # type: ignore[attr-defined]  # annotated above
        was_cut=item.response.was_cut,
        reward=score.reward(beta=beta[item.policy_id]) if score else None,
    )


def with_diff(row: CompareRow, *, before: Policy | None, after: Policy | None) -> CompareRow:
    """Return the row with the differing words marked in the two compared columns, if both have answered."""
    texts = {item.policy.pk: item.text for item in row.answers if item.text is not None}
    if before is None or after is None or before == after or not {before.pk, after.pk} <= texts.keys():
        return row
    marked = word_diff(texts[before.pk], texts[after.pk])
    if marked is None:
        return replace(row, diff_is_too_long=True)
    shown = {before.pk: marked[0], after.pk: marked[1]}
    return replace(row, answers=[replace(item, diff=shown.get(item.policy.pk)) for item in row.answers])


def notes(study: Study) -> list[Note]:
    """Return a sentence for each policy whose held-out responses or scores are not all in: one query."""
    kinds = (Job.Kind.HELDOUT, Job.Kind.SCORING)
    return [note(job) for job in job_rows(study) if job.kind in kinds and not job.is_done]


def note(job: JobRow) -> Note:
    progress = f"{job.done} of {job.total} {job.unit}" if job.total else "not begun"
    if job.is_active:
        waits = " It waits for a worker." if job.state == Job.State.QUEUED else ""
        return Note(f"{job.title}: {progress}.{waits}", is_failure=False, round_number=None)
    cause = f" {job.cause}" if job.cause else ""
    text = f"{job.title}: {job.state_label.lower()} at {progress}.{cause}"
    return Note(text, is_failure=True, round_number=job.round_number)

"""Policies side by side on the held-out prompts."""

from __future__ import annotations

from dataclasses import dataclass

from django.core.paginator import Page, Paginator

from annotate.models import Prompt, Study
from training.models import Job, Policy, SampledResponse
from training.selectors.compare_answers import Answer, CompareRow, answers_of, with_diff
from training.selectors.compare_figures import PolicyFigures, policy_figures
from training.selectors.compare_order import PromptList, prompt_list
from training.selectors.compare_query import ORDERS, VERDICTS, Columns, CompareQuery
from training.selectors.compare_verdicts import NO_VOTES
from training.selectors.job_rows import JobRow, job_rows

ROWS_PER_PAGE = 15


@dataclass(frozen=True)
class Note:
    """What is under way or went wrong with a policy's held-out responses or scores."""

    text: str
    is_failure: bool
    round_number: int | None


@dataclass(frozen=True)
class Comparison:
    """One page of the comparison; `unmeasured` prompts have both responses but no change counted yet."""

    query: CompareQuery
    policies: list[Policy]
    columns: Columns
    figures: list[PolicyFigures]
    rows: list[CompareRow]
    page: Page[int]
    listed: PromptList
    notes: list[Note]
    unmeasured: int
    has_responses: bool

    @property
    def before(self) -> Policy | None:
        return self.columns.before

    @property
    def after(self) -> Policy | None:
        return self.columns.after

    @property
    def sample_numbers(self) -> range:
        return range(1, max([1, *(column.summary.samples for column in self.figures)]) + 1)

    @property
    def orders(self) -> dict[str, str]:
        """Orders that verdicts make exist only where there are any."""
        left_out = () if self.listed.votes else ("worse", "better")
        return {name: label for name, label in ORDERS.items() if name not in left_out}

    @property
    def verdicts(self) -> dict[str, str]:
        return VERDICTS

    @property
    def empty_sentence(self) -> str:
        if self.notes:
            return "The first responses appear here as they come."
        return "Open round 1 to sample the SFT reference on the held-out prompts."


def study_policies(study: Study) -> list[Policy]:
    return list(study.policies.select_related("run__round").order_by("number"))


def comparison(
    study: Study, *, policies: list[Policy], columns: Columns, query: CompareQuery, unmeasured: int = 0
) -> Comparison:
    """Return one page of the comparison, in a fixed number of queries."""
    listed = prompt_list(study, columns=columns, query=query)
    page = Paginator(listed.prompts, ROWS_PER_PAGE).get_page(query.page)
    rows = compare_rows(study, prompts=list(page.object_list), listed=listed, columns=columns, query=query)
    return Comparison(
        query=query,
        policies=policies,
        columns=columns,
        figures=policy_figures(columns.policies, tag=query.tag, beta=study.recipe.beta),
        rows=[with_diff(row, columns=columns) for row in rows] if query.with_diff else rows,
        page=page,
        listed=listed,
        notes=notes(study),
        unmeasured=unmeasured,
        has_responses=SampledResponse.objects.filter(policy__in=policies, round=None).exists(),
    )


def compare_rows(
    study: Study, *, prompts: list[int], listed: PromptList, columns: Columns, query: CompareQuery
) -> list[CompareRow]:
    """Return the rows of these prompts in this order: three queries."""
    found = Prompt.objects.in_bulk(prompts)
    answers = answers_of(found.values(), policies=columns.policies, slot=query.slot, beta=study.recipe.beta)
    return [
        CompareRow(
            prompt=found[prompt],
            answers=[answers.get((prompt, policy.pk), Answer(policy=policy)) for policy in columns.policies],
            change=listed.changes.get(prompt),
            votes=listed.votes.get(prompt, NO_VOTES),
        )
        for prompt in prompts
    ]


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

"""A study in its twentieth round: `python -m benchmarks.pages.world --pairs 50000`, into the database in use.

Rows are written in bulk, straight into the tables, as the loop would have left them. Prints the study's slug.
"""

from __future__ import annotations

import argparse
import os
import random
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import django

if TYPE_CHECKING:
    from annotate.models import Pair, Prompt, Response, Study, User
    from training.models import Policy, Round

BATCH = 5_000
TEXTS = 500
LEAD = "bench-lead"
# One pair in so many is judged by two people.
SHARED = 10


@dataclass(frozen=True)
class Size:
    """How large the study is; `judged` is how many prompts each policy meets each opponent on."""

    pairs: int = 50_000
    rounds: int = 20
    steps: int = 5_000
    heldout: int = 200
    samples: int = 2
    judged: int = 100
    annotators: int = 20

    @property
    def prompts(self) -> int:
        """Return how many training prompts there are: each has one pair in every round."""
        evaluated = (self.rounds - 1) * self.judged + max(0, self.rounds - 2) * self.judged
        return max(1, (self.pairs - evaluated) // self.rounds)


class World:
    """What is made of a size, step by step; every step writes one kind of row."""

    def __init__(self, size: Size) -> None:
        from benchmarks.web.texts import response_text

        self.size = size
        self.chance = random.Random(0)
        self.texts = [response_text(number) for number in range(TEXTS)]
        self.study = self._study()
        self.people = self._people()
        self.train = self._prompts("train", size.prompts)
        self.heldout = self._prompts("heldout", size.heldout)
        self.policies = self._policies()
        self.rounds = self._rounds()

    def _study(self) -> Study:
        from annotate.models import User
        from annotate.services.studies import create_study
        from training.models import Recipe

        lead = User.objects.filter(username=LEAD).first() or User.objects.create_user(LEAD)
        study = create_study(
            name=f"{self.size.rounds} rounds, {uuid.uuid4().hex[:6]}",
            lead=lead,
            guidelines="Prefer what helps.",
        )
        Recipe.objects.create(study=study, base_model="owner/model")
        return study

    def _people(self) -> list[User]:
        from annotate.models import Role, User
        from annotate.services.studies import add_member

        people = [User.objects.create_user(f"bench-{n}-{self.study.pk}") for n in range(self.size.annotators)]
        for person in people:
            add_member(study=self.study, user=person, role=Role.ANNOTATOR, actor=None)
        return people

    def _prompts(self, split: str, count: int) -> list[Prompt]:
        from annotate.models import Prompt
        from benchmarks.web.texts import prompt_text

        rows = (
            Prompt(
                study=self.study,
                messages=[{"role": "user", "content": prompt_text(number)}],
                split=split,
                tags=[("advice", "code", "facts")[number % 3]],
                content_hash=f"{split[0]}{number:063x}",
                position=number,
            )
            for number in range(count)
        )
        return Prompt.objects.bulk_create(rows, batch_size=BATCH)

    def _policies(self) -> list[Policy]:
        """Return the reference and a policy for every round but the last, each the child of its neighbour."""
        from training.models import Policy

        policies: list[Policy] = []
        for number in range(self.size.rounds):
            parent = policies[-1] if policies else None
            name = f"{self.study.slug}-r{number}"
            policies.append(
                Policy.objects.create(study=self.study, number=number, parent=parent, served_name=name)
            )
        return policies

    def _rounds(self) -> list[Round]:
        from training.models import Round

        last = self.size.rounds
        return [
            Round.objects.create(
                study=self.study,
                number=number,
                sampled_policy=self.policies[number - 1],
                chosen_policy=self.policies[number] if number < last else None,
                state=Round.State.COLLECTING if number == last else Round.State.CLOSED,
            )
            for number in range(1, last + 1)
        ]

    def write(self) -> None:
        """Write everything that hangs on the rounds and policies, and what the product keeps of it."""
        from annotate.services.frozen_votes import keep_missing_votes
        from benchmarks.pages.runs import write_runs
        from training.services.comparison import measure_policy

        for item in self.rounds:
            self._label(self._training_pairs(item), share=0.6 if item is self.rounds[-1] else 1.0)
        answers = {policy.pk: self._heldout_responses(policy) for policy in self.policies}
        for policy in self.policies[1:]:
            for opponent in {self.policies[0], policy.parent}:
                share = 0.4 if policy is self.policies[-1] else 1.0
                self._label(self._evaluation_pairs(policy, opponent, answers=answers), share=share)
        self._write_checks()
        self._spread_over_days()
        write_runs(self)
        for policy in self.policies:
            measure_policy(policy)
        keep_missing_votes()

    def _training_pairs(self, item: Round) -> list[Pair]:
        from annotate.models import Pair

        slots = [(prompt, slot) for prompt in self.train for slot in range(2)]
        responses = self._responses(slots, policy=item.sampled_policy, item=item)
        is_open = item is self.rounds[-1]
        return Pair.objects.bulk_create(
            (
                Pair(
                    study=self.study,
                    prompt=prompt,
                    response_a=responses[2 * number],
                    response_b=responses[2 * number + 1],
                    purpose=Pair.Purpose.TRAIN,
                    batch=item.number,
                    state=Pair.State.OPEN if is_open else Pair.State.FROZEN,
                    labels_wanted=1 if number % SHARED else 2,
                    order_key=self.chance.random(),
                )
                for number, prompt in enumerate(self.train)
            ),
            batch_size=BATCH,
        )

    def _heldout_responses(self, policy: Policy) -> list[Response]:
        """Return the policy's first answers, in the order of prompts; all samples are written and scored."""
        from training.models import SampledResponse, Score

        slots = [(prompt, slot) for slot in range(self.size.samples) for prompt in self.heldout]
        responses = self._responses(slots, policy=policy, item=None)
        sampled = SampledResponse.objects.filter(policy=policy, round=None).values_list("pk", flat=True)
        moved = 0.2 * policy.number
        Score.objects.bulk_create(
            Score(
                sampled_id=pk,
                policy=policy,
                policy_logp=-150.0 + self.chance.gauss(moved, 1.0),
                reference_logp=-150.0,
            )
            for pk in sampled
        )
        return responses[: len(self.heldout)]

    def _responses(
        self, slots: list[tuple[Prompt, int]], *, policy: Policy, item: Round | None
    ) -> list[Response]:
        from annotate.models import Response
        from training.models import SampledResponse

        responses = Response.objects.bulk_create(
            (Response(prompt=prompt, text=self.chance.choice(self.texts)) for prompt, _ in slots),
            batch_size=BATCH,
        )
        SampledResponse.objects.bulk_create(
            (
                SampledResponse(
                    response=response,
                    prompt=prompt,
                    policy=policy,
                    round=item,
                    slot=slot,
                    settings={"temperature": 1.0},
                    prompt_token_ids=list(range(40)),
                    token_ids=list(range(100, 100 + len(response.text) // 5)),
                    logprobs=[-0.5] * 20,
                    finish_reason="stop",
                )
                for response, (prompt, slot) in zip(responses, slots, strict=True)
            ),
            batch_size=BATCH,
        )
        return responses

    def _evaluation_pairs(
        self, policy: Policy, opponent: Policy | None, *, answers: dict[int, list[Response]]
    ) -> list[Pair]:
        from annotate.models import Pair
        from training.models import EvaluationPair

        assert opponent is not None
        chosen = range(self.size.judged)
        pairs = Pair.objects.bulk_create(
            Pair(
                study=self.study,
                prompt=self.heldout[number],
                response_a=answers[policy.pk][number],
                response_b=answers[opponent.pk][number],
                purpose=Pair.Purpose.EVALUATE,
                labels_wanted=1,
                order_key=self.chance.random(),
            )
            for number in chosen
        )
        EvaluationPair.objects.bulk_create(
            EvaluationPair(
                study=self.study,
                policy=policy,
                opponent=opponent,
                prompt=pair.prompt,
                slot=0,
                pair=pair,
                policy_is_a=True,
                policy_tokens=len(pair.response_a.text) // 5,
                opponent_tokens=len(pair.response_b.text) // 5,
            )
            for pair in pairs
        )
        return pairs

    def _label(self, pairs: Iterable[Pair], *, share: float) -> None:
        """Judge the first `share` of the pairs, each as often as it wants, and fill its slots."""
        from annotate.models import Pair, Preference

        judged = list(pairs)
        judged = judged[: int(share * len(judged))]
        Preference.objects.bulk_create(
            (self._preference(pair, person=person) for pair in judged for person in self._judges(pair)),
            batch_size=BATCH,
        )
        for pair in judged:
            pair.slots_taken = pair.labels_wanted
        Pair.objects.bulk_update(judged, ["slots_taken"], batch_size=1_000)

    def _judges(self, pair: Pair) -> Iterator[User]:
        first = pair.prompt_id % len(self.people)
        for turn in range(pair.labels_wanted):
            yield self.people[(first + turn) % len(self.people)]

    def _preference(self, pair: Pair, *, person: User) -> Any:
        from annotate.models import Preference

        verdict = self.chance.choices(("a", "b", "tie", "both_bad"), weights=(45, 35, 15, 5))[0]
        return Preference(
            pair=pair,
            annotator=person,
            verdict=verdict,
            shown_left=self.chance.choice("ab"),
            duration_ms=self.chance.randint(4_000, 40_000),
        )

    def _write_checks(self) -> None:
        """Write repeats with their verdicts, flags that wait, and everybody's count of labels."""
        from django.db.models import Count

        from annotate.models import AnnotatorProgress, Flag, Pair, Preference

        known = list(Preference.objects.filter(pair__study=self.study, pair__batch=1).select_related("pair"))
        repeats = Pair.objects.bulk_create(
            Pair(
                study=self.study,
                prompt_id=row.pair.prompt_id,
                response_a_id=row.pair.response_a_id,
                response_b_id=row.pair.response_b_id,
                purpose=Pair.Purpose.REPEAT,
                original=row.pair,
                reserved_for_id=row.annotator_id,
            )
            for row in known[:500]
        )
        by_id = {person.pk: person for person in self.people}
        Preference.objects.bulk_create(
            self._preference(pair, person=by_id[pair.reserved_for_id or 0]) for pair in repeats
        )
        Flag.objects.bulk_create(
            Flag(pair_id=row.pair_id, annotator_id=row.annotator_id, reason=Flag.Reason.values[0])
            for row in known[:40]
        )
        counted = Preference.objects.filter(pair__study=self.study).values_list("annotator")
        AnnotatorProgress.objects.bulk_create(
            AnnotatorProgress(study=self.study, annotator_id=person, labels=labels)
            for person, labels in counted.annotate(labels=Count("pk")).order_by()
        )

    def _spread_over_days(self) -> None:
        """Date the labels: a day for each round, the last round's and the verdicts on policies today."""
        from django.utils import timezone

        from annotate.models import Preference

        for item in self.rounds:
            day = timezone.now() - timedelta(days=len(self.rounds) - item.number, hours=2)
            given = Preference.objects.filter(pair__study=self.study, pair__batch=item.number)
            given.update(created_at=day)


def build(size: Size) -> str:
    """Write the study and return its slug."""
    from django.db import transaction

    from annotate.services.table_statistics import refresh_statistics

    with transaction.atomic():
        world = World(size)
        world.write()
    # As `reconcile` does within seconds.
    refresh_statistics()
    return world.study.slug


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for name, value in vars(Size()).items():
        parser.add_argument(f"--{name}", type=int, default=value)
    options = parser.parse_args()
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "dpo_studio.settings")
    django.setup()
    print(build(Size(**vars(options))))


if __name__ == "__main__":
    main()

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from annotate.management.studies import study_named
from annotate.models import Study
from training.models import Policy
from training.services.rounds import RoundRefused, open_round


class Command(BaseCommand):
    help = "Open the next round of a study: two responses are sampled for each of its training prompts."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("study", help="the study's slug, as in its address")
        parser.add_argument(
            "--policy", type=int, help="the number of the policy to sample; default: the newest"
        )
        parser.add_argument(
            "--override", default="", help="why to go on from a policy that fails its gate; it is kept"
        )

    def handle(
        self, *args: Any, study: str, policy: int | None = None, override: str = "", **options: Any
    ) -> None:
        found = study_named(study)
        try:
            opened = open_round(study=found, policy=policy_numbered(found, policy), override=override)
        except RoundRefused as refusal:
            raise CommandError(str(refusal)) from refusal
        self.stdout.write(f"Round {opened.number} is open; it samples from {opened.sampled_policy.label}.")


def policy_numbered(study: Study, number: int | None) -> Policy | None:
    """Return the policy of this number, None for no number. Raises CommandError for an unknown one."""
    if number is None:
        return None
    policy = Policy.objects.filter(study=study, number=number).first()
    if policy is None:
        numbers = ", ".join(str(known) for known in study.policies.values_list("number", flat=True))
        raise CommandError(f"{study.name} has no policy {number}; it has {numbers}.")
    return policy

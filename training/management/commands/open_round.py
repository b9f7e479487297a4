from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from annotate.management.studies import study_named
from training.services.rounds import RoundRefused, open_round


class Command(BaseCommand):
    help = "Open the next round of a study: two responses are sampled for each of its training prompts."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("study", help="the study's slug, as in its address")

    def handle(self, *args: Any, study: str, **options: Any) -> None:
        try:
            opened = open_round(study=study_named(study))
        except RoundRefused as refusal:
            raise CommandError(str(refusal)) from refusal
        self.stdout.write(f"Round {opened.number} is open; it samples from {opened.sampled_policy.label}.")

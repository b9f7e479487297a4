from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from annotate.management.studies import study_named
from training.models import Round
from training.services.rounds import RoundRefused, start_training


class Command(BaseCommand):
    help = "Freeze the labels of a study's open round and queue a training run on them."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("study", help="the study's slug, as in its address")

    def handle(self, *args: Any, study: str, **options: Any) -> None:
        newest = Round.objects.filter(study=study_named(study)).order_by("-number").first()
        if newest is None:
            raise CommandError(f"{study} has no round yet; open one with `manage.py open_round {study}`.")
        try:
            run = start_training(round=newest)
        except RoundRefused as refusal:
            raise CommandError(str(refusal)) from refusal
        self.stdout.write(
            f"Run {run.number} of round {newest.number} is queued: {run.receipt['usable']} preferences, "
            f"{run.job.total} steps, in {run.directory}."
        )

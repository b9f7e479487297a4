from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from annotate.errors import Refused
from annotate.management.studies import study_named
from annotate.rules import RULES, rule_in_words
from annotate.services.simulation import label_by_rule, simulated_annotator


class Command(BaseCommand):
    help = "Label the pairs that wait in a study by a stated rule; the labels are marked as simulated."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("study", help="the study's slug or name")
        rules = "; ".join(rule_in_words(rule) for rule in sorted(RULES))
        parser.add_argument("--rule", required=True, choices=sorted(RULES), help=f"what it prefers: {rules}")
        parser.add_argument(
            "--annotator",
            required=True,
            help="a simulated account; it is made when there is none of this name",
        )
        parser.add_argument("--limit", type=int, help="stop after this many labels")

    def handle(self, *args: Any, **options: Any) -> None:
        if options["limit"] is not None and options["limit"] < 1:
            raise CommandError(f"--limit = {options['limit']} must be at least 1; leave it out to label all.")
        study = study_named(options["study"])
        try:
            annotator = simulated_annotator(study=study, username=options["annotator"], rule=options["rule"])
        except Refused as refusal:
            raise CommandError(str(refusal)) from None
        report = label_by_rule(study=study, annotator=annotator, limit=options["limit"])
        self.stdout.write(
            f"{report.labels} pairs labelled by the rule “{options['rule']}” as {annotator.username}: "
            f"{report.preferred} for a side, {report.ties} ties, {report.skips} skipped."
        )

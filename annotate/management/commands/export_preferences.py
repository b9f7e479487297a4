import sys
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from annotate.management.studies import study_named
from annotate.selectors.exports import trl_lines


class Command(BaseCommand):
    help = "Write a study's preferences as JSONL that trainers read."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("study", help="the study's slug or name")
        parser.add_argument(
            "--format",
            choices=["trl"],
            default="trl",
            help="trl: prompt, chosen, rejected as lists of messages",
        )
        parser.add_argument("--output", type=Path, help="a file; without it, standard output")
        parser.add_argument("--metadata", action="store_true", help="add where each preference came from")

    def handle(self, *args: Any, **options: Any) -> None:
        lines = trl_lines(study=study_named(options["study"]), metadata=options["metadata"])
        if options["output"] is None:
            for line in lines:
                self.stdout.write(line, ending="")
            return
        count = 0
        try:
            with options["output"].open("w", encoding="utf-8") as handle:
                for line in lines:
                    handle.write(line)
                    count += 1
        except OSError as error:
            raise CommandError(f"{options['output']} cannot be written: {error.strerror}.") from None
        print(f"{count} preferences written to {options['output']}.", file=sys.stderr)

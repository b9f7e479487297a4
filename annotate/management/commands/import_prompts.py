from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from annotate.errors import PromptFileError
from annotate.management.studies import study_named
from annotate.services.prompts import import_prompts, read_lines


class Command(BaseCommand):
    help = "Import prompts from a JSONL file into a study, all or none."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("study", help="the study's slug or name")
        parser.add_argument("file", type=Path)
        parser.add_argument(
            "--heldout-share",
            type=float,
            default=0.2,
            help="part of the lines without a split of their own that is held out (default 0.2)",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        study = study_named(options["study"])
        try:
            with options["file"].open("rb") as handle:
                report = import_prompts(
                    study=study, lines=read_lines(handle), heldout_share=options["heldout_share"]
                )
        except OSError as error:
            raise CommandError(f"{options['file']} cannot be read: {error.strerror}.") from None
        except ValueError as error:
            raise CommandError(str(error)) from None
        except PromptFileError as error:
            raise CommandError("\n".join([str(error), *self.faults(error)])) from None
        self.stdout.write(
            f"{report.created} prompts imported: {report.train} to train on, {report.heldout} held out; "
            f"{report.duplicates} duplicates left as they are."
        )
        if report.ignored_keys:
            self.stdout.write(f"Keys that were left out: {', '.join(report.ignored_keys)}.")

    def faults(self, error: PromptFileError) -> list[str]:
        faults = [f"  line {fault.line}: {fault.message}" for fault in error.errors]
        hidden = error.count - len(error.errors)
        return [*faults, f"  … and {hidden} more"] if hidden else faults

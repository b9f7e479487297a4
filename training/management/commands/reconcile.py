import logging
import time
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand
from django.db import DatabaseError, close_old_connections

from training.services.reconcile import reconcile

logger = logging.getLogger(__name__)


class Command(BaseCommand):
    help = "Put right what died or got lost: attempts, queue entries, leases, leftovers."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--every", type=float, metavar="SECONDS", help="go on, one pass every so many seconds"
        )

    def handle(self, *args: Any, every: float | None = None, **options: Any) -> None:
        if every is None:
            self._once()
            return
        while True:
            try:
                self._once(quiet=True)
            except DatabaseError:
                logger.exception("this pass failed; the next one comes in %s s", every)
            close_old_connections()
            time.sleep(every)

    def _once(self, *, quiet: bool = False) -> None:
        done = reconcile()
        if done is None:
            self.stdout.write("Another reconcile is at work; nothing was done.")
        elif done.found_something or not quiet:
            self.stdout.write(str(done))

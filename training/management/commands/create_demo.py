from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from training.services.base_models import BaseModelError
from training.services.demo import DEMO_MODEL, create_demo


class Command(BaseCommand):
    help = "Create the demo study and its people, once; later calls change nothing."

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            demo = create_demo(base_model=Path(settings.STUDIO_MODELS) / DEMO_MODEL)
        except BaseModelError as error:
            raise CommandError(
                f"{error} `python -m dpo_studio.processes.demo_model` makes the demo model."
            ) from error
        if demo is None:
            self.stdout.write("The demo study is there already. Log in with one click on the login page.")
            return
        self.stdout.write(f"Created the study “{demo.study.name}”. These passwords are shown once:")
        for login in demo.logins:
            self.stdout.write(f"  {login.username:<8} {login.password:<18} {login.role}")
        self.stdout.write("On this machine one click on the login page is enough.")

from django.contrib.auth.models import AbstractUser
from django.db import models


class User(AbstractUser):
    """A person, or a simulated annotator that labels by a stated rule."""

    simulated_rule = models.CharField(
        max_length=80,
        blank=True,
        help_text="The rule a simulated annotator labels by, for example “shorter”; empty for a person.",
    )

    class Theme(models.TextChoices):
        SYSTEM = "system", "Like the device"
        LIGHT = "light", "Light"
        DARK = "dark", "Dark"

    theme = models.CharField(max_length=6, choices=Theme.choices, default=Theme.SYSTEM)
    keys = models.JSONField(
        default=dict,
        blank=True,
        help_text='Remapped keys of the labelling screen, action → key, for example {"tie": "t"}.',
    )

    hints_dismissed = models.BooleanField(
        default=False, help_text="The hints over the first pair were put away for good."
    )

    one_click_login = models.BooleanField(
        default=False,
        help_text="The demo's login page signs this account in with one click, from this machine only.",
    )

    @property
    def is_simulated(self) -> bool:
        return bool(self.simulated_rule)

    @property
    def display_name(self) -> str:
        return self.get_full_name() or self.username

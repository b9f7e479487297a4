from django.db import models

from annotate.models import Study


class Policy(models.Model):
    """Base model + adapter. Policy 0 is the SFT reference itself, without an adapter."""

    study = models.ForeignKey(Study, on_delete=models.CASCADE, related_name="policies")
    number = models.PositiveIntegerField()
    parent = models.ForeignKey(
        "self", null=True, blank=True, on_delete=models.PROTECT, related_name="children"
    )
    served_name = models.CharField(
        max_length=120,
        unique=True,
        help_text="Immutable name under which vLLM serves it: <study>-r<round>-<sha12>.",
    )
    adapter_path = models.CharField(
        max_length=500, blank=True, help_text="Below STUDIO_HOME; empty for policy 0."
    )
    adapter_sha256 = models.CharField(max_length=64, blank=True)
    probe_note = models.CharField(
        max_length=300, blank=True, help_text="What the log-prob probe said when the adapter was published."
    )
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["study", "number"]
        verbose_name_plural = "policies"
        constraints = [
            models.UniqueConstraint(fields=["study", "number"], name="one_policy_per_number_and_study")
        ]

    def __str__(self) -> str:
        return self.label

    @property
    def label(self) -> str:
        return "SFT reference" if self.number == 0 else f"Policy {self.number}"

"""How far each annotator has come in a study's queue."""

from django.conf import settings
from django.db import models

from annotate.models.studies import Study


class QueueCursor(models.Model):
    """An annotator's place among a study's pairs of one priority.

    Every pair up to here that the annotator could be given has been in their hands, so the search for the
    next one begins here. What comes into the queue, or back into it, is put beyond every cursor.
    """

    study = models.ForeignKey(Study, on_delete=models.CASCADE, related_name="+", db_index=False)
    annotator = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+")
    priority = models.SmallIntegerField()
    order_key = models.FloatField()
    pair_number = models.BigIntegerField(help_text="The id of the pair at the cursor, gone or not.")

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["study", "annotator", "priority"], name="one_cursor_per_annotator_and_priority"
            )
        ]
        indexes = [models.Index(fields=["study", "priority", "-order_key"], name="furthest_cursor")]

    def __str__(self) -> str:
        return f"{self.annotator} at {self.order_key:.6f} of priority {self.priority} in {self.study}"


class AnnotatorProgress(models.Model):
    """What an annotator has done in a study, counted as it happens so that showing it costs nothing."""

    study = models.ForeignKey(Study, on_delete=models.CASCADE, related_name="+", db_index=False)
    annotator = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+")
    labels = models.PositiveIntegerField(default=0)
    sweep_after = models.DateTimeField(
        null=True,
        blank=True,
        help_text="When the whole queue is next searched before this annotator is told that all is done.",
    )

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["study", "annotator"], name="one_progress_per_annotator")
        ]

    def __str__(self) -> str:
        return f"{self.labels} labels by {self.annotator} in {self.study}"

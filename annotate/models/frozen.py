from django.db import models

from annotate.models.studies import Study


class FrozenVotes(models.Model):
    """The votes on a delivery's frozen training pairs, kept so that no page reads them one by one again.

    Nothing changes a vote on a frozen pair. Who is left out of training sets and what leads decided may
    change at any time and is no part of this. The row holds while there are as many frozen pairs as it says.
    """

    study = models.ForeignKey(Study, on_delete=models.CASCADE, related_name="+", db_index=False)
    batch = models.PositiveIntegerField()
    pairs = models.PositiveIntegerField(help_text="How many pairs of the delivery are frozen.")
    votes = models.BinaryField(
        help_text="Two little-endian 64-bit integers a vote, see annotate/selectors/packed_votes.py."
    )
    counts = models.JSONField(
        help_text="Labels by annotator and day, by verdict; how votes fell on shared pairs."
    )

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["study", "batch"], name="one_row_of_frozen_votes_per_batch")
        ]
        verbose_name_plural = "frozen votes"

    def __str__(self) -> str:
        return f"votes on {self.pairs} frozen pairs of delivery {self.batch} of {self.study}"

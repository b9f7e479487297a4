from django.conf import settings
from django.db import models

from annotate.models.studies import Study


class Split(models.TextChoices):
    TRAIN = "train", "Train"
    HELDOUT = "heldout", "Held-out"
    CHECK = "check", "Check"


class Prompt(models.Model):
    """A chat so far, ending with the user.

    Held-out prompts never reach a training set. Prompts of the split "check" belong to gold and practice
    pairs alone; nothing is sampled for them.
    """

    study = models.ForeignKey(Study, on_delete=models.CASCADE, related_name="prompts")
    messages = models.JSONField(help_text='[{"role": "user", "content": "…"}, …], the last one by the user.')
    split = models.CharField(max_length=8, choices=Split.choices)
    tags = models.JSONField(default=list, blank=True)
    external_id = models.CharField(max_length=200, blank=True)
    content_hash = models.CharField(max_length=64, help_text="sha256 of the canonical JSON of the messages.")
    position = models.PositiveIntegerField(help_text="Place in the import order.")

    class Meta:
        ordering = ["position"]
        constraints = [
            models.UniqueConstraint(fields=["study", "content_hash"], name="one_prompt_per_content_and_study")
        ]
        indexes = [models.Index(fields=["study", "split", "position"])]

    def __str__(self) -> str:
        return self.preview

    @property
    def preview(self) -> str:
        """The beginning of the last message, on one line."""
        text = " ".join(str(self.messages[-1]["content"])[:400].split())
        return text if len(text) <= 160 else text[:159].rstrip() + "…"


class Response(models.Model):
    """What was answered to a prompt: text only, so that nobody who labels can learn who wrote it."""

    prompt = models.ForeignKey(Prompt, on_delete=models.CASCADE, related_name="responses")
    text = models.TextField(blank=True)
    was_cut = models.BooleanField(default=False, help_text="The length limit ended it, not the writer.")
    created_at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return self.text[:80]


class Pair(models.Model):
    """Two different responses to one prompt, to be judged by `labels_wanted` annotators.

    A gold or practice pair is a template (`labels_wanted` 0, with a `KnownAnswer`): each annotator judges a
    copy of it, and a repeat is a copy of what they judged themselves. Copies point at their `original` and
    are `reserved_for` one person; only pairs that are reserved for nobody are in the common queue.

    `slots_taken` counts preferences plus live leases; the queue hands a pair out only while it is below
    `labels_wanted`. Whoever changes preferences or leases changes it in the same transaction.
    """

    class Purpose(models.TextChoices):
        TRAIN = "train", "Train"
        EVALUATE = "evaluate", "Evaluate"
        PRACTICE = "practice", "Practice"
        GOLD = "gold", "Gold"
        REPEAT = "repeat", "Repeat"

    class State(models.TextChoices):
        OPEN = "open", "Open"
        FROZEN = "frozen", "Frozen"
        WITHDRAWN = "withdrawn", "Withdrawn"

    study = models.ForeignKey(Study, on_delete=models.CASCADE, related_name="pairs")
    prompt = models.ForeignKey(Prompt, on_delete=models.CASCADE, related_name="pairs")
    response_a = models.ForeignKey(Response, on_delete=models.CASCADE, related_name="+")
    response_b = models.ForeignKey(Response, on_delete=models.CASCADE, related_name="+")
    purpose = models.CharField(max_length=10, choices=Purpose.choices, default=Purpose.TRAIN)
    original = models.ForeignKey(
        "self",
        null=True,
        blank=True,
        on_delete=models.CASCADE,
        related_name="repeats",
        help_text="Of a repeat, or of one person's copy of a gold or practice pair.",
    )
    reserved_for = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        null=True,
        blank=True,
        on_delete=models.CASCADE,
        related_name="reserved_pairs",
        db_index=False,  # by the indexes below: where most are empty, SQLite would not use a plain one
        help_text="Only this annotator gets the pair; empty: whoever is next.",
    )
    batch = models.PositiveIntegerField(
        default=0, help_text="Which delivery this pair came in; its meaning belongs to whoever made the pair."
    )
    state = models.CharField(max_length=10, choices=State.choices, default=State.OPEN)
    labels_wanted = models.PositiveSmallIntegerField(default=1)
    slots_taken = models.PositiveSmallIntegerField(default=0)
    priority = models.SmallIntegerField(default=0)
    order_key = models.FloatField(default=0.0)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=~models.Q(response_a=models.F("response_b")), name="pair_has_two_responses"
            ),
            models.CheckConstraint(
                condition=models.Q(slots_taken__lte=models.F("labels_wanted")),
                name="no_more_slots_than_wanted",
            ),
        ]
        indexes = [
            models.Index(
                "study",
                models.F("priority").desc(),
                "order_key",
                "id",
                condition=models.Q(
                    state="open", slots_taken__lt=models.F("labels_wanted"), reserved_for__isnull=True
                ),
                name="open_pairs_in_queue_order",
            ),
            models.Index(
                fields=["reserved_for", "study", "priority", "order_key"],
                condition=models.Q(
                    state="open", slots_taken__lt=models.F("labels_wanted"), reserved_for__isnull=False
                ),
                name="open_pairs_reserved_for",
            ),
            models.Index(fields=["study", "batch", "purpose"]),
            # Of frozen pairs alone: SQLite was seen to take an index of all pairs, with their state, for the
            # queue's searches, and to read the whole study by it.
            models.Index(
                fields=["study", "batch", "purpose"],
                condition=models.Q(state="frozen"),
                name="frozen_pairs_by_delivery",
            ),
            # By delivery first, so that no search of the queue, which names none, takes it.
            models.Index(
                fields=["batch", "purpose", "study"],
                condition=models.Q(state="open"),
                name="open_pairs_by_delivery",
            ),
            models.Index(
                fields=["reserved_for", "original"],
                condition=models.Q(reserved_for__isnull=False),
                name="reserved_by_original",
            ),
            models.Index(
                fields=["reserved_for", "created_at"],
                condition=models.Q(reserved_for__isnull=False),
                name="reserved_by_time",
            ),
        ]

    def __str__(self) -> str:
        return f"pair {self.pk} of {self.study}"

    @property
    def is_check(self) -> bool:
        """Whether this is a practice or gold pair, a copy of one, or a repeat: it serves no training set."""
        of_the_queue = (self.Purpose.TRAIN, self.Purpose.EVALUATE)
        return self.purpose not in of_the_queue or self.reserved_for_id is not None

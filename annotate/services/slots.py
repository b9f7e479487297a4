"""The accounting of `Pair.slots_taken` = preferences + leases; call within the change's transaction."""

from django.db.models import F

from annotate.models import Pair


def take_slot(pair_id: int) -> bool:
    """Take one slot of an open pair; False when it has none left. A single compare-and-swap."""
    free = Pair.objects.filter(pk=pair_id, state=Pair.State.OPEN, slots_taken__lt=F("labels_wanted"))
    return free.update(slots_taken=F("slots_taken") + 1) == 1


def give_slot_back(pair_id: int) -> None:
    """Return one slot to a pair."""
    Pair.objects.filter(pk=pair_id, slots_taken__gt=0).update(slots_taken=F("slots_taken") - 1)

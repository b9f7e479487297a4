"""Which policies' KL figures are biased by how their held-out responses were drawn."""

from collections.abc import Sequence

from django.db.models import OuterRef, Subquery

from training.evaluation.kl_bias import kl_bias
from training.models import Policy, SampledResponse


def kl_biases(policies: Sequence[Policy]) -> dict[int, str]:
    """Return by policy id why its KL is biased, empty where it is not: one query.

    One response speaks for a policy: the held-out responses of a study are all drawn with the same settings.
    """
    own = SampledResponse.objects.filter(policy=OuterRef("pk"), round=None).order_by("slot", "prompt_id")
    rows = Policy.objects.filter(pk__in=[policy.pk for policy in policies])
    drawn = rows.order_by().annotate(drawn=Subquery(own.values("settings")[:1])).values_list("pk", "drawn")
    return {pk: kl_bias(settings or {}) for pk, settings in drawn}

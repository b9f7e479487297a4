"""Keeping the pairs that somebody is looking at."""

from django.http import HttpRequest, JsonResponse
from django.views.decorators.http import require_POST

from annotate.access import study_access
from annotate.models import Role
from annotate.services.queue import renew_leases


@require_POST
def label_heartbeat(request: HttpRequest, slug: str) -> JsonResponse:
    """Renew what the person holds; says of each pair when its hold runs out, and leaves out what ran out."""
    access = study_access(request, slug, Role.ANNOTATOR, Role.LEAD)
    held = renew_leases(study=access.study, annotator=access.user)
    return JsonResponse({"held": {str(pair_id): moment.isoformat() for pair_id, moment in held.items()}})

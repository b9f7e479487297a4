from dataclasses import asdict
from typing import Any

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render

from training.models import DemonstrationRun, Job, Run
from training.selectors.metrics import run_curves

STOP_POLLING = 286


def live_response(request: HttpRequest, template: str, *, context: dict[str, Any]) -> HttpResponse:
    """Render the fragments that a polling page swaps; 286 tells htmx to stop when nothing moves any more.

    `context["poll_seconds"]` is how often to ask again, None for never.
    """
    status = 200 if context["poll_seconds"] else STOP_POLLING
    return render(request, template, {**context, "swaps": True}, status=status)


def metrics_response(request: HttpRequest, *, run: Run | DemonstrationRun, job: Job | None) -> JsonResponse:
    """Answer with the curves above `?after=STEP`, or all of them when `?attempt=` is not the present one."""
    attempt = job.attempt_number if job else 0
    is_same = request.GET.get("attempt", str(attempt)) == str(attempt)
    curves = run_curves(run, after=step_number(request.GET.get("after", "")) if is_same else -1)
    return JsonResponse(
        {**asdict(curves), "restart": not is_same, "attempt": attempt, "active": bool(job and job.is_active)}
    )


def step_number(text: str) -> int:
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 10 else -1

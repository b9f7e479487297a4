"""What somebody sees after a practice pair: whether their choice is the expected one, and why."""

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_GET, require_POST

from annotate.access import StudyAccess, study_access
from annotate.models import Pair, Preference, Role, Side
from annotate.selectors.shown_pairs import show_sides
from annotate.services.practice import practice_feedback, restart_practice

LABELLERS = (Role.ANNOTATOR, Role.LEAD)


def practice_answer(request: HttpRequest, access: StudyAccess, preference: Preference) -> HttpResponse | None:
    """Return the feedback on a label of a practice pair; None for every other label.

    The page's script gets the panel for the stage, a plain form post is led to a page with the same panel.
    """
    if preference.pair.purpose != Pair.Purpose.PRACTICE:
        return None
    if not request.htmx:  # type: ignore[attr-defined]
        return redirect("practice-feedback", access.study.slug, preference.pair_id)
    response = render(request, "annotate/_feedback.html", _context(access, preference))
    response["Cache-Control"] = "no-store"
    return response


@require_GET
def feedback(request: HttpRequest, slug: str, pair_id: int) -> HttpResponse:
    """Show one's own practice pair with what was expected: the way without JavaScript, and after a reload."""
    access = study_access(request, slug, *LABELLERS)
    pair = get_object_or_404(Pair, pk=pair_id, study=access.study)
    mine = Preference.objects.filter(annotator=access.user, pair__purpose=Pair.Purpose.PRACTICE)
    preference = mine.select_related("pair__study", "pair__original__known_answer").filter(pair=pair).first()
    if preference is None:
        return redirect("label", slug)
    context = access.context("label") | _context(access, preference)
    return render(request, "annotate/practice_feedback.html", context)


@require_POST
def practice_again(request: HttpRequest, slug: str) -> HttpResponse:
    """Practise once more; the pairs come before the next real one."""
    access = study_access(request, slug, *LABELLERS)
    waiting = restart_practice(study=access.study, annotator=access.user)
    if waiting:
        messages.info(request, f"{waiting} practice pairs come first. They are kept out of the data.")
    else:
        messages.info(request, "This study has no practice pairs.")
    return redirect("label", slug)


def _context(access: StudyAccess, preference: Preference) -> dict[str, object]:
    shown = show_sides(preference.pair, left_side=Side(preference.shown_left), annotator=access.user)
    return {"study": access.study, "feedback": practice_feedback(preference), "shown": shown}

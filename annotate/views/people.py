"""The person behind a request, and the page of a study's people."""

from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_GET

from annotate.access import StudyAccess, study_access
from annotate.forms import MemberAddForm
from annotate.models import Role, Study, User
from annotate.selectors.people import held_pairs, invites_of, people_of
from annotate.team_forms import InviteForm

READERS = (Role.LEAD, Role.VIEWER)


def signed_in(request: HttpRequest) -> User:
    """Return the signed-in person; the middleware lets nobody else this far."""
    if not isinstance(request.user, User):
        raise Http404
    return request.user


@require_GET
def people(request: HttpRequest, slug: str) -> HttpResponse:
    """Show who is in the study, what they hold, and which links are out."""
    return people_page(request, study_access(request, slug, *READERS))


def people_page(
    request: HttpRequest,
    access: StudyAccess,
    *,
    member_form: MemberAddForm | None = None,
    invite_form: InviteForm | None = None,
    new_account: tuple[str, str] | None = None,
    new_link: str = "",
    status: int = 200,
) -> HttpResponse:
    """Render the page; a new account's password and a new link are shown this once."""
    shown = people_of(access.study)
    links = invites_of(access.study)
    context = access.context("team") | {
        "subsection": "people",
        "people": shown,
        "held": held_pairs(access.study, people=shown),
        "open_invites": [shown for shown in links if not shown.closed],
        "closed_invites": [shown for shown in links if shown.closed],
        "roles": Role.choices,
        "states": Study.State.choices,
        "member_form": member_form or MemberAddForm(),
        "invite_form": invite_form or InviteForm(auto_id="invite_%s"),
        "new_account": new_account,
        "new_link": new_link,
        "member_form_open": bool(new_account or (member_form and member_form.errors)),
    }
    response = render(request, "annotate/people.html", context, status=status)
    if new_account or new_link:
        response["Cache-Control"] = "no-store"
    return response

"""Signing in and out. There is no sign-up: leads and commands make accounts."""

import ipaddress
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.contrib.auth import login as sign_in
from django.contrib.auth.decorators import login_not_required
from django.contrib.auth.views import LoginView, LogoutView
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.utils.decorators import method_decorator
from django.views.decorators.http import require_POST

from annotate.models import User

PROXY_HEADERS = ("X-Forwarded-For", "X-Forwarded-Host", "X-Real-IP", "Forwarded", "Via")


def is_local(request: HttpRequest) -> bool:
    """Whether the request comes from this machine itself, to this machine's own name, through nobody."""
    if any(header in request.headers for header in PROXY_HEADERS):
        return False
    host = urlsplit(f"//{request.get_host()}").hostname or ""
    return _is_loopback(request.META.get("REMOTE_ADDR", "")) and (host == "localhost" or _is_loopback(host))


def offers_one_click(request: HttpRequest) -> bool:
    return bool(settings.DEMO) and is_local(request)


@method_decorator(login_not_required, name="dispatch")
class StudioLoginView(LoginView):
    template_name = "annotate/login.html"
    redirect_authenticated_user = True

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        people = User.objects.filter(one_click_login=True, is_active=True).order_by("-is_superuser", "pk")
        one_click = list(people) if offers_one_click(self.request) else []
        return super().get_context_data(one_click=one_click, **kwargs)


login = StudioLoginView.as_view()
logout = LogoutView.as_view(http_method_names=["post"])


@login_not_required
@require_POST
def demo_login(request: HttpRequest) -> HttpResponse:
    """Sign a demo account in without a password; elsewhere than on the demo's machine: 404."""
    if not offers_one_click(request):
        raise Http404
    people = User.objects.filter(one_click_login=True, is_active=True)
    user = get_object_or_404(people, username=request.POST.get("username", ""))
    sign_in(request, user, backend="annotate.signed_in.AccountBackend")
    return redirect("home")


def _is_loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False

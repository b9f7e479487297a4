from django.contrib import messages
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_GET, require_POST

from annotate.access import StudyAccess, study_access
from annotate.models import Role
from training.models import Policy
from training.selectors.evaluation import study_evaluation
from training.selectors.policy_examples import policy_examples
from training.selectors.policy_page import policy_page
from training.services.downloads import Archive, DownloadMissing, archive_of
from training.services.jobs import JobRefused
from training.services.merging import is_merged, merge_directory, start_merge
from training.views.evaluation import whole


@require_GET
def policy_list(request: HttpRequest, slug: str) -> HttpResponse:
    access = study_access(request, slug, Role.LEAD, Role.VIEWER)
    found = study_evaluation(access.study)
    context = {**access.context("evaluation"), "evaluation": found, "rows": list(reversed(found.rows))}
    return render(request, "training/policy_list.html", context)


@require_GET
def policy_detail(request: HttpRequest, slug: str, policy: int) -> HttpResponse:
    access = study_access(request, slug, Role.LEAD, Role.VIEWER)
    page = policy_page(access.study, number=policy)
    context = {
        **access.context("evaluation"),
        "page": page,
        "may_act": access.role == Role.LEAD,
        "is_merged": is_merged(page.policy),
    }
    return render(request, "training/policy_detail.html", context)


@require_GET
def policy_example_list(request: HttpRequest, slug: str, policy: int) -> HttpResponse:
    """The exact examples, with who judged what: for leads, since labelling is blind."""
    access = study_access(request, slug, Role.LEAD)
    item = policy_of(access, number=policy)
    run = getattr(item, "run", None)
    if run is None:
        messages.info(request, f"{item.label} was not trained here; it has no examples.")
        return redirect("policy-detail", slug, policy)
    try:
        page = policy_examples(run, page=whole(request.GET.get("page", "")) or 1)
    except FileNotFoundError:
        messages.error(request, f"The run directory of {item.label} is gone; restore it from a backup.")
        return redirect("policy-detail", slug, policy)
    context = {**access.context("evaluation"), "policy": item, "run": run, "examples": page}
    return render(request, "training/policy_examples.html", context)


@require_POST
def policy_merge(request: HttpRequest, slug: str, policy: int) -> HttpResponse:
    access = study_access(request, slug, Role.LEAD)
    item = policy_of(access, number=policy)
    try:
        start_merge(policy=item, actor=access.user)
    except JobRefused as refusal:
        messages.error(request, str(refusal))
    else:
        messages.success(request, f"{item.label} is being merged into its base.")
    return redirect("policy-detail", slug, policy)


@require_GET
def policy_adapter(request: HttpRequest, slug: str, policy: int) -> HttpResponseBase:
    """The adapter: safetensors, model card, manifest."""
    access = study_access(request, slug, Role.LEAD)
    item = policy_of(access, number=policy)
    return sent(request, access, policy=item, folder=item.adapter_path, kind="adapter")


@require_GET
def policy_model(request: HttpRequest, slug: str, policy: int) -> HttpResponseBase:
    """The merged model, once a job has made it."""
    access = study_access(request, slug, Role.LEAD)
    item = policy_of(access, number=policy)
    folder = f"{merge_directory(item)}/model" if is_merged(item) else ""
    return sent(request, access, policy=item, folder=folder, kind="model")


def policy_of(access: StudyAccess, *, number: int) -> Policy:
    policies = Policy.objects.select_related("study__recipe", "run__round")
    return get_object_or_404(policies, study=access.study, number=number)


def sent(
    request: HttpRequest, access: StudyAccess, *, policy: Policy, folder: str, kind: str
) -> HttpResponseBase:
    """Answer with an archive, or go back to the policy's page and say why there is none."""
    try:
        archive = archive_of(folder, name=f"{access.study.slug}-policy-{policy.number}-{kind}")
    except DownloadMissing as missing:
        messages.error(request, str(missing))
        return redirect("policy-detail", access.study.slug, policy.number)
    return as_download(archive)


def as_download(archive: Archive) -> StreamingHttpResponse:
    response = StreamingHttpResponse(archive.chunks(), content_type="application/x-tar")
    response.headers["Content-Disposition"] = f'attachment; filename="{archive.name}.tar"'
    response.headers["Content-Length"] = str(archive.size)
    return response

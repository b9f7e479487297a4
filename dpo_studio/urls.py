"""Every address of the product. Paths are nouns, then an action; whatever changes state answers POST only."""

from django.urls import include, path

from dpo_studio import health

urlpatterns = [
    path("healthz", health.healthz, name="healthz"),
    path("readyz", health.readyz, name="readyz"),
    path("", include("annotate.urls")),
    path("", include("training.urls")),
]

from django.urls import path

from training.views import compare, jobs, recipes, rounds, runs, status, studies

urlpatterns = [
    path("status/", status.status, name="status"),
    path("studies/new/", studies.study_create, name="study-create"),
    path("studies/<slug:slug>/", studies.study_detail, name="study-detail"),
    path("studies/<slug:slug>/live/", studies.study_live, name="study-live"),
    path("studies/<slug:slug>/recipe/", recipes.recipe_edit, name="recipe-edit"),
    path("studies/<slug:slug>/compare/", compare.compare, name="compare"),
    path("studies/<slug:slug>/rounds/open/", rounds.round_open, name="round-open"),
    path("studies/<slug:slug>/rounds/<int:number>/", rounds.round_detail, name="round-detail"),
    path("studies/<slug:slug>/rounds/<int:number>/live/", rounds.round_live, name="round-live"),
    path("studies/<slug:slug>/rounds/<int:number>/train/", rounds.round_train, name="round-train"),
    path(
        "studies/<slug:slug>/rounds/<int:number>/runs/<int:run>/metrics/",
        runs.run_metrics,
        name="run-metrics",
    ),
    path("studies/<slug:slug>/rounds/<int:number>/runs/<int:run>/log/", runs.run_log, name="run-log"),
    path("studies/<slug:slug>/jobs/<int:job_id>/cancel/", jobs.job_cancel, name="job-cancel"),
    path("studies/<slug:slug>/jobs/<int:job_id>/retry/", jobs.job_retry, name="job-retry"),
]

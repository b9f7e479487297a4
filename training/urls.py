from django.urls import path

from training.views import (
    compare,
    evaluation,
    jobs,
    policies,
    recipes,
    rounds,
    runs,
    status,
    studies,
    trials,
)

urlpatterns = [
    path("status/", status.status, name="status"),
    path("studies/new/", studies.study_create, name="study-create"),
    path("studies/<slug:slug>/", studies.study_detail, name="study-detail"),
    path("studies/<slug:slug>/live/", studies.study_live, name="study-live"),
    path("studies/<slug:slug>/recipe/", recipes.recipe_edit, name="recipe-edit"),
    path("studies/<slug:slug>/compare/", compare.compare, name="compare"),
    path("studies/<slug:slug>/compare/figures/", compare.compare_figures, name="compare-figures"),
    path(
        "studies/<slug:slug>/compare/prompts/<int:prompt_id>/", compare.compare_prompt, name="compare-prompt"
    ),
    path("studies/<slug:slug>/compare/export.jsonl", compare.compare_jsonl, name="compare-jsonl"),
    path("studies/<slug:slug>/compare/export.csv", compare.compare_csv, name="compare-csv"),
    path("studies/<slug:slug>/compare/try/", trials.trial_create, name="trial-create"),
    path("studies/<slug:slug>/compare/try/<int:trial_id>/", trials.trial_detail, name="trial-detail"),
    path("studies/<slug:slug>/compare/try/<int:trial_id>/live/", trials.trial_live, name="trial-live"),
    path("studies/<slug:slug>/compare/try/<int:trial_id>/stop/", trials.trial_stop, name="trial-stop"),
    path("studies/<slug:slug>/compare/try/<int:trial_id>/queue/", trials.trial_queue, name="trial-queue"),
    path("studies/<slug:slug>/evaluation/", evaluation.evaluation, name="evaluation"),
    path("studies/<slug:slug>/evaluation/plan/", evaluation.evaluation_plan, name="evaluation-plan"),
    path("studies/<slug:slug>/policies/", policies.policy_list, name="policy-list"),
    path("studies/<slug:slug>/policies/<int:policy>/", policies.policy_detail, name="policy-detail"),
    path(
        "studies/<slug:slug>/policies/<int:policy>/examples/",
        policies.policy_example_list,
        name="policy-examples",
    ),
    path(
        "studies/<slug:slug>/policies/<int:policy>/evaluate/",
        evaluation.evaluation_more,
        name="evaluation-more",
    ),
    path(
        "studies/<slug:slug>/policies/<int:policy>/adapter.tar",
        policies.policy_adapter,
        name="policy-adapter",
    ),
    path("studies/<slug:slug>/policies/<int:policy>/merge/", policies.policy_merge, name="policy-merge"),
    path("studies/<slug:slug>/policies/<int:policy>/model.tar", policies.policy_model, name="policy-model"),
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

from django.urls import URLPattern, path

from annotate.views import accounts, exports, guidelines, home, label, members, prompts, settings

urlpatterns: list[URLPattern] = [
    path("", home.home, name="home"),
    path("login/", accounts.login, name="login"),
    path("logout/", accounts.logout, name="logout"),
    path("demo-login/", accounts.demo_login, name="demo-login"),
    path("studies/<slug:slug>/label/", label.label, name="label"),
    path("studies/<slug:slug>/label/next/", label.label_next, name="label-next"),
    path("studies/<slug:slug>/label/undo/", label.label_undo, name="label-undo"),
    path("studies/<slug:slug>/pairs/<int:pair_id>/judge/", label.label_judge, name="label-judge"),
    path("studies/<slug:slug>/pairs/<int:pair_id>/skip/", label.label_skip, name="label-skip"),
    path("studies/<slug:slug>/guidelines/", guidelines.study_guidelines, name="study-guidelines"),
    path("studies/<slug:slug>/prompts/", prompts.prompt_list, name="prompt-list"),
    path("studies/<slug:slug>/prompts/import/", prompts.prompt_import, name="prompt-import"),
    path("studies/<slug:slug>/prompts/<int:prompt_id>/", prompts.prompt_detail, name="prompt-detail"),
    path("studies/<slug:slug>/settings/", settings.study_settings, name="study-settings"),
    path("studies/<slug:slug>/members/add/", members.member_add, name="member-add"),
    path("studies/<slug:slug>/members/<int:member_id>/role/", members.member_role, name="member-role"),
    path("studies/<slug:slug>/members/<int:member_id>/remove/", members.member_remove, name="member-remove"),
    path(
        "studies/<slug:slug>/export/preferences.jsonl",
        exports.export_preferences,
        name="export-preferences",
    ),
]

"""The web process stays light, and the parts know only those they may know (import-linter holds the rest)."""

import json
import subprocess
import sys

import pytest

LIST_MODULES = """
import json, sys
{imports}
print(json.dumps(sorted({{name.partition(".")[0] for name in sys.modules}})))
"""


def modules_after(imports: str) -> set[str]:
    script = LIST_MODULES.format(imports=imports)
    finished = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(json.loads(finished.stdout.splitlines()[-1]))


def test_web_process_imports_no_machine_learning_library() -> None:
    loaded = modules_after(
        "import os; os.environ['DJANGO_SETTINGS_MODULE'] = 'dpo_studio.settings'\n"
        "import django; django.setup()\n"
        "from dpo_studio.wsgi import application\n"
        "from django.urls import get_resolver; get_resolver().url_patterns\n"
        "from django.core.management import get_commands; get_commands()\n"
    )
    assert "django" in loaded
    assert loaded.isdisjoint({"torch", "transformers", "peft", "vllm"})


@pytest.mark.parametrize(
    "module", ["training.core.run.config", "training.core.run.directory", "training.serving.client"]
)
def test_what_the_web_side_uses_of_trainer_and_serving_is_light(module: str) -> None:
    loaded = modules_after(f"import {module}")
    assert loaded.isdisjoint({"torch", "transformers", "peft", "vllm", "django"})


def test_what_everything_may_import_imports_nothing_of_the_project() -> None:
    loaded = modules_after("import training.parent_death")
    assert loaded.isdisjoint({"annotate", "training.core", "training.serving", "dpo_studio", "django"})

"""The demo study: a real small model, prompts, guidelines and four people."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from django.conf import settings
from django.db import transaction

from annotate.models import Pair, Role, Study, User
from annotate.services.accounts import create_user
from annotate.services.gold import import_known_pairs
from training.services.studies import Member, create_training_study

DEMO_NAME = "Demo"
DEMO_MODEL = "SmolLM2-135M-Instruct"
LEAD = "lead"
ANNOTATORS = {"ada": "Ada", "ben": "Ben", "chloe": "Chloe"}
DEMO_GOLD_SHARE = 0.05
CONTENT = Path("annotate") / "demo"
# A 135 M model with few labels: one pass of many strong steps moves it further on held-out prompts than two
# passes, which learn the pairs by heart (docs/decisions/demo-recipe.md). Its unlikeliest tokens are mostly
# nonsense, which nobody wants to judge.
DEMO_RECIPE = {"learning_rate": 5e-4, "pairs_per_step": 4, "epochs": 1, "top_p": 0.95}


@dataclass(frozen=True)
class Login:
    """How someone logs in; the password is stored nowhere in clear."""

    username: str
    password: str
    role: str


@dataclass(frozen=True)
class Demo:
    study: Study
    logins: tuple[Login, ...]


def create_demo(*, base_model: Path) -> Demo | None:
    """Create the demo study with its people, or return None when it is there already.

    Raises BaseModelError when the demo model has not been made.
    """
    if Study.objects.filter(name=DEMO_NAME).exists():
        return None
    content = settings.BASE_DIR / CONTENT
    with transaction.atomic():
        lead, lead_login = _person(LEAD, display_name="Lead", role=Role.LEAD)
        annotators = [
            _person(name, display_name=shown, role=Role.ANNOTATOR) for name, shown in ANNOTATORS.items()
        ]
        with (content / "prompts.jsonl").open("rb") as prompts:
            study = create_training_study(
                name=DEMO_NAME,
                lead=lead,
                base_model=str(base_model),
                guidelines=(content / "guidelines.md").read_text(encoding="utf-8"),
                prompts=prompts,
                members=[Member(user=user, role=Role.ANNOTATOR) for user, _ in annotators],
                recipe=DEMO_RECIPE,
            )
        _add_checks(study, content=content, lead=lead)
    return Demo(study=study, logins=(lead_login, *(login for _, login in annotators)))


def _add_checks(study: Study, *, content: Path, lead: User) -> None:
    """Give the study practice pairs, and gold pairs among the real ones."""
    for purpose in (Pair.Purpose.PRACTICE, Pair.Purpose.GOLD):
        with (content / f"{purpose.value}.jsonl").open("rb") as pairs:
            import_known_pairs(study=study, lines=pairs, purpose=purpose, actor=lead)
    Study.objects.filter(pk=study.pk).update(gold_share=DEMO_GOLD_SHARE)


def _person(username: str, *, display_name: str, role: Role) -> tuple[User, Login]:
    """Return the account with its login, made now unless somebody has that name already."""
    existing = User.objects.filter(username=username).first()
    if existing is not None:
        return existing, Login(username, "(as before)", role.label)
    user, password = create_user(username=username, display_name=display_name, one_click_login=True)
    return user, Login(username, password, role.label)

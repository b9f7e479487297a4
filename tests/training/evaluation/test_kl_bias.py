"""Where the mean log-ratio of sampled responses is no estimate of a KL, and where that is said."""

import re

import pytest

from tests.training.factories import make_round
from tests.training.page_world import (
    PageWorld,
    add_heldout_response,
    add_policy,
    add_run,
    heldout_prompts,
    page_world,
)
from training.evaluation.gate import Evidence, Thresholds, gate_of
from training.evaluation.kl_bias import kl_bias
from training.evaluation.win_rate import win_rate
from training.models import Round
from training.serving.client import SamplingSettings


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"temperature": 0.7}, "temperature 0.7"),
        ({"top_p": 0.95}, "top\N{NON-BREAKING HYPHEN}p 0.95"),
        ({"top_k": 50}, "top\N{NON-BREAKING HYPHEN}k 50"),
        ({"min_p": 0.05}, "min\N{NON-BREAKING HYPHEN}p 0.05"),
    ],
)
def test_every_setting_that_changes_the_distribution_is_named(changed: dict[str, float], named: str) -> None:
    assert kl_bias(SamplingSettings().as_request()) == ""
    assert named in kl_bias(SamplingSettings(**changed).as_request()).replace("\N{NO-BREAK SPACE}", " ")  # type: ignore[arg-type]


@pytest.mark.parametrize("kl", [3.0, 80.0])
def test_gate_says_that_its_kl_is_biased(kl: float) -> None:
    def distance(bias: str) -> str:
        evidence = Evidence(over_reference=win_rate([], half_width=0.1), kl=kl, kl_bias=bias)
        checks = gate_of(evidence, thresholds=Thresholds()).checks
        return next(check.sentence for check in checks if check.name == "Distance")

    bias = kl_bias({"top_p": 0.95})
    assert distance(bias) == f"{distance('')} {bias}"


def world_with_a_kl(*, top_p: float) -> PageWorld:
    """A trained round whose policy's scored held-out responses were drawn with this top-p."""
    world = page_world()
    policy = add_policy(world.study, run=add_run(make_round(world.study, state=Round.State.TRAINED)))
    for prompt in heldout_prompts(world.study):
        add_heldout_response(policy, prompt, "some words", log_ratio=2.5, top_p=top_p)
    return world


@pytest.mark.django_db
@pytest.mark.parametrize("top_p", [0.95, 1.0])
def test_pages_mark_a_kl_where_it_is_biased(top_p: float) -> None:
    world = world_with_a_kl(top_p=top_p)

    def marks(path: str) -> int:
        return world.lead.get(world.url(path)).content.decode().count('class="biased"')

    # At home beside the newest policy's figures, and in the line of its round.
    pages = {"": 2, "policies/": 1, "policies/1/": 1, "compare/?policy=1": 1, "rounds/1/": 1}
    assert {path: marks(path) for path in pages} == (pages if top_p < 1 else dict.fromkeys(pages, 0))


@pytest.mark.django_db
@pytest.mark.parametrize(("top_p", "said"), [(0.95, ["Biased: the responses were drawn with"]), (1.0, [])])
def test_plot_says_that_its_kl_is_biased(top_p: float, said: list[str]) -> None:
    world = world_with_a_kl(top_p=top_p)
    html = world.lead.get(world.url("compare/figures/")).content.decode()
    assert [found[:37] for found in re.findall(r'plot-caution">([^<]*)<', html)] == said

"""Numbers as the pages write them."""

from datetime import timedelta
from math import inf, nan

import pytest
from django.utils import timezone

from training.templatetags.figures import ago, compact, duration, figure, percent, short_path, signed


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, ""),
        (0.4, "0 s"),
        (59.4, "59 s"),
        (60, "1 min"),
        (95, "1 min 35 s"),
        (200, "3 min"),
        (3600, "1 h"),
        (7900, "2 h 11 min"),
    ],
)
def test_duration_is_as_coarse_as_it_may_be(seconds: float | None, text: str) -> None:
    assert duration(seconds).replace("\N{NO-BREAK SPACE}", " ") == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(1.006, "1.01"), (-0.5, "−0.50"), (None, "–"), ("", "–"), (nan, "not finite"), (inf, "not finite")],
)
def test_figure_names_what_is_missing(value: float | None, text: str) -> None:
    assert figure(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(1.25, "+1.25"), (-0.5, "−0.50"), (0.001, "0.00"), (-0.001, "0.00"), (None, "–"), ("", "–")],
)
def test_signed_has_no_sign_at_nothing(value: float | None, text: str) -> None:
    assert signed(value) == text


@pytest.mark.parametrize(
    ("share", "text"), [(0.125, "12 %"), (1.0, "100 %"), (None, "–"), ("", "–"), (nan, "–")]
)
def test_percent(share: float | None, text: str) -> None:
    assert percent(share).replace("\N{NO-BREAK SPACE}", " ") == text


@pytest.mark.parametrize(
    ("value", "text"), [(1e-4, "1e-4"), (5e-6, "5e-6"), (0.1, "0.1"), (2048, "2048"), (0, "0"), (None, "–")]
)
def test_compact_writes_settings_as_people_do(value: float | None, text: str) -> None:
    assert compact(value) == text


@pytest.mark.parametrize(
    ("text", "name"), [("/a/b/Model", "Model"), ("/a/b/Model/", "Model"), ("owner/model", "model")]
)
def test_short_path_is_the_name_people_know(text: str, name: str) -> None:
    assert short_path(text) == name


def test_ago_does_not_count_seconds() -> None:
    now = timezone.now()
    assert ago(now - timedelta(seconds=50)) == "just now"
    assert ago(now - timedelta(hours=3, minutes=20)).replace("\N{NO-BREAK SPACE}", " ") == "3 hours ago"

"""What the log-prob probe concludes from its figures, and what it takes for a probe."""

import json
from pathlib import Path

import pytest

from training.serving.adapters import AdapterCheck, AdapterProbe
from training.serving.errors import AdapterUnusable


def check(*, noise_floor: float, error: float, change: float, served_change: float) -> AdapterCheck:
    return AdapterCheck(
        "demo-r1-abc", noise_floor=noise_floor, error=error, change=change, served_change=served_change
    )


def test_adapter_within_the_noise_floor_is_served() -> None:
    served = check(noise_floor=0.066, error=0.063, change=0.260, served_change=0.248)
    served.require_served()
    assert not served.changes_nothing
    assert served.sentence == (
        "Log-probs of demo-r1-abc agree with training: 0.063 nats per token apart, where the base is 0.066 "
        "apart; the adapter moves them by 0.260, on the server by 0.248."
    )


def test_base_under_the_name_of_an_adapter_is_found_out_even_below_the_noise_floor() -> None:
    with pytest.raises(AdapterUnusable, match="serves the base under the name demo-r1-abc"):
        check(noise_floor=0.066, error=0.067, change=0.010, served_change=0.0).require_served()


def test_other_weights_under_the_name_are_found_out() -> None:
    with pytest.raises(AdapterUnusable, match="serves something else than the adapter demo-r1-abc"):
        check(noise_floor=0.066, error=0.900, change=0.260, served_change=0.950).require_served()


def test_adapter_that_changes_nothing_warns_and_passes() -> None:
    unchanged = check(noise_floor=0.066, error=0.066, change=0.0, served_change=0.0)
    unchanged.require_served()
    assert unchanged.changes_nothing
    assert unchanged.sentence.startswith("The adapter demo-r1-abc changes nothing")


PROBE = {"token_ids": [1, 2, 3], "policy_logps": [-1.0, -2.0], "reference_logps": [-1.5, -2.5]}


def test_probe_is_read_back(tmp_path: Path) -> None:
    (tmp_path / "probe.json").write_text(json.dumps(PROBE | {"prompt_tokens": 2}))
    assert AdapterProbe.read(tmp_path) == AdapterProbe((1, 2, 3), (-1.0, -2.0), (-1.5, -2.5))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("not json", "cannot be read (JSONDecodeError"),
        (json.dumps({"token_ids": [1, 2]}), "cannot be read (KeyError: 'policy_logps')"),
        (json.dumps(PROBE | {"policy_logps": [-1.0]}), "has 3 token ids, 1 policy and 2 reference log-probs"),
        (json.dumps({"token_ids": [1], "policy_logps": [], "reference_logps": []}), "has 1 token ids"),
    ],
)
def test_unusable_probe_is_named(tmp_path: Path, content: str, reason: str) -> None:
    (tmp_path / "probe.json").write_text(content)
    with pytest.raises(AdapterUnusable) as refused:
        AdapterProbe.read(tmp_path)
    assert str(tmp_path / "probe.json") in str(refused.value)
    assert reason in str(refused.value)


def test_folder_without_probe_is_named(tmp_path: Path) -> None:
    with pytest.raises(AdapterUnusable, match="only a folder that training"):
        AdapterProbe.read(tmp_path)

"""The client against a real vLLM server with the demo model."""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import pytest

from tests.support.engine import LiveEngine
from training.serving.adapters import ensure_adapter
from training.serving.client import EngineClient, SamplingSettings
from training.serving.errors import AdapterUnusable, EngineRefused

pytestmark = [pytest.mark.engine, pytest.mark.slow]

Answer = TypeVar("Answer")
END_OF_TURN = 2
CHAT = [{"role": "user", "content": "Name three colours of the rainbow and say what each one feels like."}]
REPLY = {"role": "assistant", "content": "Red feels warm, blue feels calm, and green feels fresh."}
GREEDY = SamplingSettings(temperature=0.0, max_tokens=24)


def run(engine: LiveEngine, work: Callable[[EngineClient], Awaitable[Answer]]) -> Answer:
    async def connected() -> Answer:
        async with engine.client() as client:
            return await work(client)

    return asyncio.run(connected())


def test_responses_come_with_token_ids_logprobs_and_the_end_of_turn(live_engine: LiveEngine) -> None:
    settings = SamplingSettings(temperature=0.7, max_tokens=300)
    question = [{"role": "user", "content": "Say hi."}]
    answers = run(
        live_engine, lambda c: c.sample(question, model=live_engine.served_name, settings=settings, n=8)
    )
    stopped = [answer for answer in answers if answer.finish_reason == "stop"]
    assert len(answers) == 8
    assert stopped, "none of eight short answers ended by itself"
    for answer in answers:
        assert len(answer.token_ids) == len(answer.logprobs)
        assert max(answer.logprobs) <= 0
        assert answer.prompt_token_ids == answers[0].prompt_token_ids
        assert answer.model == live_engine.served_name
    assert all(answer.token_ids[-1] == END_OF_TURN for answer in stopped)


def test_response_cut_by_length_has_no_end_of_turn(live_engine: LiveEngine) -> None:
    settings = SamplingSettings(max_tokens=2)
    (answer,) = run(live_engine, lambda c: c.sample(CHAT, model=live_engine.served_name, settings=settings))
    assert (answer.finish_reason, len(answer.token_ids)) == ("length", 2)
    assert END_OF_TURN not in answer.token_ids


def test_base_says_which_folder_it_was_started_with(live_engine: LiveEngine) -> None:
    base = run(live_engine, lambda c: c.base_model())
    assert (base.name, base.root, base.parent) == (live_engine.served_name, live_engine.base_model, None)


def test_unknown_model_is_refused_rather_than_answered_by_the_base(live_engine: LiveEngine) -> None:
    with pytest.raises(EngineRefused, match="does not exist") as refused:
        run(live_engine, lambda c: c.sample(CHAT, model="nobody", settings=GREEDY))
    assert refused.value.status == 404


def test_cancelled_request_frees_the_engine_within_two_seconds(live_engine: LiveEngine) -> None:
    endless = SamplingSettings(max_tokens=4000, min_tokens=4000)

    async def busy(client: EngineClient) -> float:
        return (await client.metrics())["vllm:num_requests_running"]

    async def cancel(client: EngineClient) -> float:
        request = asyncio.create_task(client.sample(CHAT, model=live_engine.served_name, settings=endless))
        while await busy(client) == 0:
            await asyncio.sleep(0.05)
        request.cancel()
        cancelled = time.monotonic()
        while await busy(client) > 0:
            await asyncio.sleep(0.05)
        return time.monotonic() - cancelled

    assert run(live_engine, cancel) < 2


@pytest.fixture(scope="module")
def adapters(demo_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders of LoRA adapters with probes: two that change much, one that changes nothing, one misnamed."""
    folder = tmp_path_factory.mktemp("adapters")
    make_adapter(folder / "first", base=demo_model, spread=0.02, seed=1)
    make_adapter(folder / "second", base=demo_model, spread=0.02, seed=2)
    make_adapter(folder / "unchanged", base=demo_model, spread=0.0, seed=3)
    make_adapter(folder / "misnamed", base=demo_model, spread=0.02, seed=4)
    rename_modules(folder / "misnamed" / "adapter_model.safetensors")
    return folder


def make_adapter(folder: Path, *, base: Path, spread: float, seed: int) -> None:
    """Write a LoRA adapter of random weights, and what transformers gives with and without it."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, AutoTokenizer

    torch.manual_seed(seed)
    model: Any = AutoModelForCausalLM.from_pretrained(base, dtype=torch.bfloat16)
    policy: Any = get_peft_model(model, LoraConfig(r=16, lora_alpha=32, target_modules="all-linear")).eval()
    for name, parameter in policy.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=spread)
    tokens = AutoTokenizer.from_pretrained(base).apply_chat_template([*CHAT, REPLY], return_dict=True)[
        "input_ids"
    ]
    with torch.no_grad():
        policy_logps = token_logps(policy, tokens)
        with policy.disable_adapter():
            reference_logps = token_logps(policy, tokens)
    policy.save_pretrained(folder)
    probe = {"token_ids": tokens, "policy_logps": policy_logps, "reference_logps": reference_logps}
    (folder / "probe.json").write_text(json.dumps(probe))


def token_logps(model: Any, tokens: list[int]) -> list[float]:
    import torch

    logits = model(torch.tensor([tokens])).logits[0, :-1].float()
    following = torch.tensor(tokens[1:])[:, None]
    chosen: list[float] = logits.log_softmax(-1).gather(1, following)[:, 0].tolist()
    return chosen


def rename_modules(weights: Path) -> None:
    """Give each weight the name of a layer that the model does not have, as a wrong export would."""
    from safetensors.torch import load_file, save_file

    save_file(
        {name.replace(".layers.", ".layers.9"): weight for name, weight in load_file(weights).items()},
        weights,
    )


def publish(engine: LiveEngine, adapters: Path, name: str) -> Any:
    return run(engine, lambda c: ensure_adapter(c, name=name, path=adapters / name))


def test_adapter_is_published_once_and_its_logprobs_prove_it(live_engine: LiveEngine, adapters: Path) -> None:
    checks = [publish(live_engine, adapters, "first") for _ in range(2)]
    for check in checks:
        assert check.change > 0.1
        assert check.served_change == pytest.approx(check.change, rel=0.3)
        assert check.error < 2 * check.noise_floor
        assert "agree with training" in check.sentence
    served = run(live_engine, lambda c: c.served_models())
    assert [model.parent for model in served if model.name == "first"] == [live_engine.served_name]


def test_adapter_that_changes_nothing_is_published_with_a_warning(
    live_engine: LiveEngine, adapters: Path
) -> None:
    check = publish(live_engine, adapters, "unchanged")
    assert check.changes_nothing
    assert "changes nothing" in check.sentence


def test_adapter_whose_modules_do_not_fit_is_not_published(live_engine: LiveEngine, adapters: Path) -> None:
    with pytest.raises(AdapterUnusable, match=r"serves the base under the name|does not load the adapter"):
        publish(live_engine, adapters, "misnamed")


def test_name_of_another_adapter_is_refused(live_engine: LiveEngine, adapters: Path) -> None:
    publish(live_engine, adapters, "first")
    with pytest.raises(AdapterUnusable, match="another adapter under the name first"):
        run(live_engine, lambda c: ensure_adapter(c, name="first", path=adapters / "second"))


def test_requests_in_one_batch_each_get_their_own_policy(live_engine: LiveEngine, adapters: Path) -> None:
    """The base beside two adapters, which fill every slot of the engine: none may answer for another."""
    names = [live_engine.served_name, "first", "second"]
    for name in names[1:]:
        publish(live_engine, adapters, name)
    tokens = json.loads((adapters / "first" / "probe.json").read_text())["token_ids"]

    async def one_by_one(client: EngineClient) -> list[tuple[float, ...]]:
        return [await client.prompt_logprobs(tokens, model=name) for name in names]

    async def together(client: EngineClient) -> list[tuple[float, ...]]:
        long = SamplingSettings(max_tokens=60, min_tokens=60)
        noise = [asyncio.create_task(client.sample(CHAT, model=name, settings=long)) for name in names * 2]
        while (await client.metrics())["vllm:num_requests_running"] < len(noise):
            await asyncio.sleep(0.02)
        scored = await asyncio.gather(*(client.prompt_logprobs(tokens, model=name) for name in names))
        await asyncio.gather(*noise)
        return list(scored)

    alone, mixed = run(live_engine, one_by_one), run(live_engine, together)
    for index in range(len(names)):
        distances = [difference(mixed[index], other) for other in alone]
        assert distances[index] == min(distances)
        assert distances[index] < 0.05 < min(distances[:index] + distances[index + 1 :])


def difference(left: Sequence[float], right: Sequence[float]) -> float:
    return sum(abs(a - b) for a, b in zip(left, right, strict=True)) / len(left)

"""Publish an adapter on a vLLM server and prove by log-probs that the server really serves it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from training.serving.client import EngineClient
from training.serving.errors import AdapterUnusable, EngineRefused

PROBE_FILE = "probe.json"

# Mean absolute differences in nats per token. docs/decisions/vllm-on-cpu.md has the figures behind them.
NO_CHANGE = 1e-4
LEAST_SHARE_SERVED = 0.1
NOISE_FACTOR = 3.0
NOISE_ALLOWANCE = 0.02


@dataclass(frozen=True)
class AdapterProbe:
    """Token ids and the log-probs (nats, one per token after the first) that training saw for them."""

    token_ids: tuple[int, ...]
    policy_logps: tuple[float, ...]
    reference_logps: tuple[float, ...]

    @staticmethod
    def read(adapter: Path) -> AdapterProbe:
        """Read an adapter folder's probe. Raises AdapterUnusable."""
        try:
            values = json.loads((adapter / PROBE_FILE).read_text(encoding="utf-8"))
            probe = AdapterProbe(
                **{name: tuple(values[name]) for name in ("token_ids", "policy_logps", "reference_logps")}
            )
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise AdapterUnusable(
                f"{adapter / PROBE_FILE} cannot be read ({type(error).__name__}: {error}); only a folder "
                "that training.core wrote can be published."
            ) from error
        if not len(probe.token_ids) - 1 == len(probe.policy_logps) == len(probe.reference_logps) > 0:
            raise AdapterUnusable(
                f"{adapter / PROBE_FILE} has {len(probe.token_ids)} token ids, {len(probe.policy_logps)} "
                f"policy and {len(probe.reference_logps)} reference log-probs; one is due for each token "
                "after the first."
            )
        return probe


@dataclass(frozen=True)
class AdapterCheck:
    """What the probe found, as mean absolute differences in nats per token.

    noise_floor: the server's base from the reference in training (kernels, bfloat16); error: the served
    adapter from the policy in training; change: policy from reference in training; served_change: adapter
    from base on the server.
    """

    name: str
    noise_floor: float
    error: float
    change: float
    served_change: float

    @property
    def changes_nothing(self) -> bool:
        """Whether training left the policy where the reference is: worth a warning, no fault of serving."""
        return self.change < NO_CHANGE

    @property
    def sentence(self) -> str:
        """Return what was found, for people."""
        if self.changes_nothing:
            return (
                f"The adapter {self.name} changes nothing: its log-probs differ from the reference's by "
                f"{self.change:.1g} nats per token. Was the learning rate 0, or was there nothing to learn?"
            )
        return (
            f"Log-probs of {self.name} agree with training: {self.error:.3f} nats per token apart, where the "
            f"base is {self.noise_floor:.3f} apart; the adapter moves them by {self.change:.3f}, on the "
            f"server by {self.served_change:.3f}."
        )

    def require_served(self) -> None:
        """Raise AdapterUnusable when the server serves something else under the adapter's name."""
        if not self.changes_nothing and self.served_change < LEAST_SHARE_SERVED * self.change:
            raise AdapterUnusable(
                f"The engine serves the base under the name {self.name}: the adapter should move log-probs "
                f"by {self.change:.3g} nats per token and moves them by {self.served_change:.3g}. Do its "
                "module names fit this base model, and may the engine apply LoRA to them "
                "(--lora-target-modules)?"
            )
        if self.error > NOISE_FACTOR * self.noise_floor + NOISE_ALLOWANCE:
            raise AdapterUnusable(
                f"The engine serves something else than the adapter {self.name}: log-probs are "
                f"{self.error:.3g} nats per token from those in training, where the base is "
                f"{self.noise_floor:.3g} away. Does the engine have the base model that the adapter was "
                "trained on?"
            )


async def ensure_adapter(client: EngineClient, *, name: str, path: Path) -> AdapterCheck:
    """Load the adapter where the server does not have it yet, and prove that it is served.

    A name is never loaded twice: vLLM's prefix cache is keyed by it. Raises AdapterUnusable, EngineError.
    """
    probe = AdapterProbe.read(path)
    await _load_once(client, name=name, path=path)
    base = await client.base_model()
    base_logps = await client.prompt_logprobs(probe.token_ids, model=base.name)
    adapter_logps = await client.prompt_logprobs(probe.token_ids, model=name)
    check = AdapterCheck(
        name=name,
        noise_floor=_mean_difference(base_logps, probe.reference_logps),
        error=_mean_difference(adapter_logps, probe.policy_logps),
        change=_mean_difference(probe.policy_logps, probe.reference_logps),
        served_change=_mean_difference(adapter_logps, base_logps),
    )
    check.require_served()
    return check


async def _load_once(client: EngineClient, *, name: str, path: Path) -> None:
    if await _loaded_from(client, name=name, path=path):
        return
    try:
        await client.load_adapter(name, path=path)
    except EngineRefused as error:
        # Another job may have loaded it between the question and the request.
        if not await _loaded_from(client, name=name, path=path):
            raise AdapterUnusable(f"The engine does not load the adapter {name}: {error.message}") from error


async def _loaded_from(client: EngineClient, *, name: str, path: Path) -> bool:
    served = {model.name: model for model in await client.served_models()}
    if name in served and Path(served[name].root) != path:
        raise AdapterUnusable(
            f"The engine has another adapter under the name {name}, from {served[name].root}; a name is for "
            "good. Restart the engine, or publish under a new name."
        )
    return name in served


def _mean_difference(left: Sequence[float], right: Sequence[float]) -> float:
    return sum(abs(a - b) for a, b in zip(left, right, strict=True)) / len(left)

"""The adapter folder: PEFT weights, a probe to verify a server by, a model card, and a manifest."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from peft import get_peft_model_state_dict
from safetensors.torch import save_file
from torch import nn

from training.core.logprobs.pairs import completion_token_logps
from training.core.model.loading import ADAPTER_CONFIG, ADAPTER_WEIGHTS, reference_mode
from training.core.run.directory import RunDirectory, TokenIds
from training.core.run.files import new_folder, write_json, write_text

PROBE_TOKENS = 64


@dataclass(frozen=True)
class Probe:
    """Token ids of a real prompt and completion, with float32 log-probs (nats) under policy and reference.

    Entry i of each list belongs to token i + 1: the first token is predicted by nothing.
    """

    token_ids: TokenIds
    prompt_tokens: int
    policy_logps: tuple[float, ...]
    reference_logps: tuple[float, ...]


def write_adapter(run: RunDirectory, *, policy: nn.Module, base_model: str, probe: Probe, card: str) -> None:
    """Write adapter/ as a whole: weights, PEFT configuration, probe.json, README.md and manifest.json."""
    with new_folder(run.adapter) as folder:
        weights = get_peft_model_state_dict(policy, save_embedding_layers=False)
        stored = {name: weight.detach().cpu().contiguous() for name, weight in sorted(weights.items())}
        save_file(stored, folder / ADAPTER_WEIGHTS, metadata={"format": "pt"})
        write_json(folder / ADAPTER_CONFIG, value=_peft_config(policy, base_model=base_model))
        write_json(folder / "probe.json", value=asdict(probe))
        write_text(folder / "README.md", text=card)


def make_probe(policy: nn.Module, *, examples: Sequence[tuple[TokenIds, TokenIds]]) -> Probe:
    """Log-probs of about 64 tokens of the prompt and completion with the shortest prompt, 16 after it at
    least.
    """
    prompt, completion = min(examples, key=lambda example: len(example[0]))
    sequence = (prompt + completion)[: max(PROBE_TOKENS, len(prompt) + 16)]
    with torch.no_grad():
        policy_logps = completion_token_logps(policy, prompt=sequence[:1], completion=sequence[1:])
    with reference_mode(policy):
        reference_logps = completion_token_logps(policy, prompt=sequence[:1], completion=sequence[1:])
    return Probe(
        token_ids=sequence,
        prompt_tokens=len(prompt),
        policy_logps=tuple(policy_logps.tolist()),
        reference_logps=tuple(reference_logps.tolist()),
    )


def read_probe(folder: Path) -> Probe:
    """Read back adapter/probe.json."""
    values = json.loads((folder / "probe.json").read_text(encoding="utf-8"))
    values.update({key: tuple(values[key]) for key in ("token_ids", "policy_logps", "reference_logps")})
    return Probe(**values)


def _peft_config(policy: nn.Module, *, base_model: str) -> dict[str, Any]:
    """PEFT's configuration with sets in a fixed order, so that equal adapters are equal files."""
    values: dict[str, Any] = policy.peft_config["default"].to_dict()  # type: ignore[index,union-attr]
    values.update(inference_mode=True, base_model_name_or_path=base_model)
    return {key: sorted(value) if isinstance(value, set) else value for key, value in sorted(values.items())}

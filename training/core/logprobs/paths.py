"""Which ways to a model's log-probs are open: found out by trying, once per model."""

from contextlib import nullcontext
from dataclasses import dataclass
from threading import Lock
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from training.core.logprobs.head import Head, chunked_token_logps
from training.core.logprobs.rows import Row, plain_row, shared_row
from training.core.model.attention import SEGMENTS, segments_calls, without_masks
from training.core.model.loading import causal_model, reference_mode
from training.core.model.rotary import longest_shared
from training.core.model.steady import is_steady
from training.core.run.directory import TokenIds

# How many tokens the trial pair's prompt, chosen and rejected have.
TRIAL = (6, 4, 3)
# How far a right way may be from the plain one, in nats per token: rounding, not another distribution.
TOLERANCE = {torch.float32: 1e-4, torch.float64: 1e-4}
LOW_PRECISION_TOLERANCE = 0.1
# Of the difference that it makes in low precision when the completions of a row see each other.
LOW_PRECISION_SHARE = 0.3


@dataclass(frozen=True)
class LogpsPath:
    """How a model's log-probs are computed.

    `shares_prompt`: its attention takes rows of segments; `reason` says why not. `head`: its hidden states
    can be had before the LM head, None where only the whole forward pass gives the right logits. `steady`:
    a completion's log-probs in a shared row are the same bit for bit whatever else is in the row. `longest`:
    a sequence of more tokens gets a row of its own, whose length decides its positions' frequencies.
    """

    shares_prompt: bool
    head: Head | None
    reason: str = ""
    steady: bool = False
    longest: int | None = None


_paths: WeakKeyDictionary[nn.Module, LogpsPath] = WeakKeyDictionary()
# The trial switches the adapter off and the attention over, for every thread: the lanes of a first pass wait.
_trial = Lock()


def logps_path(policy: nn.Module) -> LogpsPath:
    """The leanest way that gives the model's own log-probs on a small trial pair; remembered per model."""
    model = causal_model(policy)
    with _trial:
        if model not in _paths:
            with reference_mode(policy):
                _paths[model] = _find_path(model)
        return _paths[model]


def row_logps(
    policy: nn.Module, *, row: Row, chunk_tokens: int | None = None, hits: Tensor | None = None
) -> Tensor:
    """The log-probs of the row's targets, float32, (n,); a row of several segments needs a sharing model.

    `hits`, bool, (n,) on the model's device, is filled with whether each target was the likeliest token.
    """
    path = logps_path(policy)
    return _row_logps(causal_model(policy), row=row, path=path, chunk_tokens=chunk_tokens, hits=hits)


def token_logps(logits: Tensor, *, targets: Tensor) -> Tensor:
    """log softmax(logits)[target] in float32, shape (n,); logits (n, vocabulary), targets (n,)."""
    logits = logits.float()
    chosen_logits: Tensor = logits.gather(1, targets[:, None])[:, 0]
    return chosen_logits - logits.logsumexp(dim=1)


def _row_logps(
    model: nn.Module,
    *,
    row: Row,
    path: LogpsPath,
    chunk_tokens: int | None = None,
    hits: Tensor | None = None,
) -> Tensor:
    row = row.to(next(model.parameters()).device)
    if path.head is None:
        logits = model(input_ids=row.ids[None], use_cache=False).logits[0]
        if hits is not None:
            hits.copy_(logits[row.kept].argmax(1) == row.targets)
        return token_logps(logits[row.kept], targets=row.targets)
    hidden = _hidden(model, row=row, segments=path.shares_prompt)[row.kept]
    return chunked_token_logps(
        hidden, head=path.head, targets=row.targets, chunk_tokens=chunk_tokens, hits=hits
    )


def _hidden(model: Any, *, row: Row, segments: bool) -> Tensor:
    """The last hidden states of a row, (T, d)."""
    inputs: dict[str, Any] = {"input_ids": row.ids[None], "use_cache": False}
    if segments:
        inputs.update(position_ids=row.positions[None], segments=row.segments)
    with without_masks() if segments else nullcontext():
        hidden: Tensor = model.base_model(**inputs)[0][0]
    return hidden


def _find_path(model: nn.Module) -> LogpsPath:
    whole = LogpsPath(shares_prompt=False, head=None, reason="its logits are more than a linear head's")
    head = _linear_head(model)
    if head is None:
        return whole
    prompt, *completions = _trial_tokens(len(head.weight))
    rows = [plain_row(prompt, completion=completion) for completion in completions]
    wanted = torch.cat([_row_logps(model, row=row, path=whole) for row in rows])
    plain = LogpsPath(shares_prompt=False, head=head)
    found = torch.cat([_row_logps(model, row=row, path=plain) for row in rows])
    if _distance(found, wanted) > TOLERANCE.get(head.weight.dtype, LOW_PRECISION_TOLERANCE):
        return whole
    reason = _why_not_shared(model, head=head, wanted=wanted)
    longest = longest_shared(model)
    steady = not reason and longest is None and is_steady(model)
    return LogpsPath(shares_prompt=not reason, head=head, reason=reason, steady=steady, longest=longest)


def _trial_tokens(vocabulary: int) -> list[TokenIds]:
    """A prompt and two completions of tokens from all over the vocabulary, few of them special ones."""
    numbers = iter(range(sum(TRIAL)))
    return [tuple((7919 * next(numbers) + 997) % vocabulary for _ in range(count)) for count in TRIAL]


def _why_not_shared(model: Any, *, head: Head, wanted: Tensor) -> str:
    """Empty where a shared row gives what two rows give; the model then attends over segments."""
    settings = model.config.get_text_config()
    layers = set(getattr(settings, "layer_types", None) or ()) - {"full_attention", "sliding_attention"}
    if layers:
        return f"it has layers of kind {', '.join(sorted(layers))}"
    before = settings._attn_implementation
    try:
        model.set_attn_implementation(SEGMENTS)
        calls = segments_calls()
        prompt, chosen, rejected = _trial_tokens(len(head.weight))
        path = LogpsPath(shares_prompt=True, head=head)
        shared = _row_logps(model, row=shared_row([(prompt, (chosen, rejected))]), path=path)
        reached = segments_calls() - calls == settings.num_hidden_layers
        after_chosen = _row_logps(model, row=plain_row(prompt + chosen, completion=rejected), path=path)
        harm = _distance(after_chosen, wanted[len(chosen) :])
        if reached and _distance(shared, wanted) <= _tolerance(head.weight.dtype, harm=harm):
            return ""
        reason = "its attention does not keep the completions of a row apart"
    except (AttributeError, KeyError, TypeError, ValueError, RuntimeError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
    model.set_attn_implementation(before)
    return reason


def _tolerance(dtype: torch.dtype, *, harm: float) -> float:
    """The rounding allowed; `harm` is the difference when the rejected completion follows the chosen one."""
    return TOLERANCE.get(dtype) or max(LOW_PRECISION_TOLERANCE, LOW_PRECISION_SHARE * harm)


def _distance(found: Tensor, wanted: Tensor) -> float:
    """The mean absolute difference, nats per token."""
    return float((found - wanted).abs().mean())


def _linear_head(model: Any) -> Head | None:
    """The model's LM head where it is a plain linear layer over hidden states that `base_model` gives."""
    head = model.get_output_embeddings()
    if type(head) is not nn.Linear or model.base_model is model:
        return None
    cap = getattr(model.config.get_text_config(), "final_logit_softcapping", None)
    return Head(weight=head.weight, bias=head.bias, cap=cap)

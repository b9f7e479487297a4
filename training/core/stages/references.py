"""The frozen reference's log-probs of a run's examples, and the check that it is what the losses take it
for.
"""

from collections.abc import Sequence

from torch import Tensor, nn

from training.core.data.encode import EncodedPair
from training.core.errors import TrainingError
from training.core.logprobs.pairs import PairLogpsFunction, PairTokenLogps, completion_token_logps
from training.core.model.loading import reference_mode
from training.core.process import raise_if_stopped
from training.core.progress import progress, say
from training.core.run.directory import TokenIds
from training.core.stages.job import DpoRun

# How far a fresh adapter, or the reference asked twice, may be from nothing: nats per token, by dtype.
NOISE = {"float32": 1e-4, "bfloat16": 0.05}


def reference_logps(
    policy: nn.Module, *, pairs: tuple[EncodedPair, ...], pair_logps: PairLogpsFunction
) -> tuple[PairTokenLogps, ...]:
    """The reference's per-token log-probs of every pair, once per run."""
    computed = []
    with progress("reference", total=len(pairs)) as shown, reference_mode(policy):
        for pair in pairs:
            raise_if_stopped(where="before the first step")
            computed.append(
                pair_logps(policy, prompt=pair.prompt, chosen=pair.chosen, rejected=pair.rejected)
            )
            shown.advance()
    return tuple(computed)


def completion_references(
    policy: nn.Module, *, completions: Sequence[tuple[TokenIds, TokenIds]]
) -> tuple[Tensor, ...]:
    """The reference's per-token log-probs of every (prompt, completion)."""
    computed = []
    with progress("reference", total=len(completions)) as shown, reference_mode(policy):
        for prompt, completion in completions:
            raise_if_stopped(where="before the first step")
            computed.append(completion_token_logps(policy, prompt=prompt, completion=completion))
            shown.advance()
    return tuple(computed)


def check_step_zero(job: DpoRun) -> None:
    """Before the first step: a fresh adapter changes nothing, a continued one leaves the reference as it was.

    Raises TrainingError when the reference is not what the losses take it for.
    """
    data = job.data
    if data.references is None:
        return
    live, again, reference = data.first_example()
    noise = NOISE[job.config.dtype]
    if (drift := _distance(again, reference)) > noise:
        raise TrainingError(
            f"the reference gives log-probs {drift:.3g} nats a token apart when asked twice; "
            "the base model is not deterministic and cannot be a reference"
        )
    change = _distance(live, reference)
    if job.fresh and change > noise:
        raise TrainingError(
            f"a fresh adapter changes the log-probs by {change:.3g} nats a token instead of nothing; "
            "check that the base model is the reference itself, without an adapter of its own"
        )
    if not job.fresh and change == 0:
        say("warning: the parent adapter changes nothing; check that it was trained on this base model")


def _distance(first: Tensor, second: Tensor) -> float:
    """The mean absolute difference of two sets of per-token log-probs, in nats."""
    return float((first - second.to(first.device)).abs().mean())

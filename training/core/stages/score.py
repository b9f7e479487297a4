"""Stage score: log-probs of given completions under policy and reference, without training."""

import time
from dataclasses import asdict

import torch
from torch import nn

from training.core.data.encode import EncodedCompletion, encode_completions
from training.core.data.examples import EncodedExamples
from training.core.distributed import ALONE, Ranks
from training.core.logprobs.pairs import completion_token_logps
from training.core.model.loading import (
    BaseModel,
    encoding_rules,
    find_base,
    load_base,
    load_policy,
    load_tokenizer,
    parent_sha256,
    reference_mode,
)
from training.core.process import raise_if_stopped
from training.core.progress import progress, say
from training.core.run.config import RunConfig
from training.core.run.directory import RunDirectory
from training.core.run.files import append_lines, keep_lines, sha256_of_file, write_json
from training.core.run.records import RunResult, ScoreRecord, read_scores
from training.core.versions import library_versions


def run_score(run: RunDirectory, *, config: RunConfig, ranks: Ranks = ALONE) -> None:
    """Write scores.jsonl, a line per completion, and result.json; goes on where it was interrupted.

    Without a parent adapter the policy is the reference, so both log-probs are one and the same number.
    """
    began = time.monotonic()
    base = find_base(config)
    encoded = _usable_completions(run, config=config, base=base)
    policy = load_base(config, base=base)
    if config.parent_adapter is not None:
        policy = load_policy(config, model=policy, trainable=False)
    keep_lines(run.scores, wanted=lambda _: True)
    done = {(record.id, record.index) for record in read_scores(run.scores)}
    with progress("score", total=len(encoded.items), done=len(done)) as shown:
        for completion in encoded.items:
            if (completion.id, completion.index) not in done:
                raise_if_stopped(where=f"after {shown.done} of {shown.total} completions")
                record = score_completion(policy, completion=completion)
                append_lines(run.scores, values=[asdict(record)])
                shown.advance()
    seconds = time.monotonic() - began
    write_json(
        run.result, value=asdict(_result(run, config=config, base=base, encoded=encoded, seconds=seconds))
    )
    say(f"finished: {len(encoded.items)} completions scored")


def score_completion(policy: nn.Module, *, completion: EncodedCompletion) -> ScoreRecord:
    """Summed float32 log-probs of one completion under the policy and under the reference."""
    prompt, tokens = completion.prompt, completion.completion
    with torch.no_grad():
        policy_logp = float(completion_token_logps(policy, prompt=prompt, completion=tokens).sum())
    reference_logp = policy_logp
    if hasattr(policy, "peft_config"):
        with reference_mode(policy):
            reference_logp = float(completion_token_logps(policy, prompt=prompt, completion=tokens).sum())
    return ScoreRecord(
        id=completion.id,
        index=completion.index,
        tokens=len(tokens),
        policy_logp=policy_logp,
        reference_logp=reference_logp,
    )


def _usable_completions(
    run: RunDirectory, *, config: RunConfig, base: BaseModel
) -> EncodedExamples[EncodedCompletion]:
    tokenizer = load_tokenizer(base)
    rules = encoding_rules(config, base=base, tokenizer=tokenizer)
    encoded = encode_completions(run.examples, tokenizer=tokenizer, rules=rules)
    write_json(run.receipt, value=asdict(encoded.receipt(steps=0)))
    if not encoded.items:
        raise encoded.none_usable()
    return encoded


def _result(
    run: RunDirectory,
    *,
    config: RunConfig,
    base: BaseModel,
    encoded: EncodedExamples[EncodedCompletion],
    seconds: float,
) -> RunResult:
    receipt = encoded.receipt(steps=0)
    return RunResult(
        stage=config.stage,
        examples=receipt.examples,
        used=receipt.used,
        steps=0,
        seconds=seconds,
        base_sha256=base.sha256,
        examples_sha256=sha256_of_file(run.examples),
        config_sha256=sha256_of_file(run.config),
        versions=library_versions(),
        parent_sha256=parent_sha256(config),
    )

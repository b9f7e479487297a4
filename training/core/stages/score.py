"""Stage score: log-probs of given completions under policy and reference, without training."""

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import chain
from statistics import fmean

import torch
from torch import Tensor, nn

from training.core.data.encode import EncodedCompletion, encode_completions
from training.core.distributed import ALONE, Ranks
from training.core.lanes import Lanes, open_lanes
from training.core.logprobs.pairs import Group, grouped_passes, groups_token_logps
from training.core.model.loading import (
    BaseModel,
    encoding_rules,
    find_base,
    load_base,
    load_policy,
    load_tokenizer,
    parent_sha256,
)
from training.core.process import raise_if_stopped
from training.core.progress import progress, say
from training.core.run.config import RunConfig
from training.core.run.directory import Receipt, RunDirectory
from training.core.run.files import append_lines, keep_lines, sha256_of_file, write_json
from training.core.run.records import RunResult, ScoreRecord, read_scores
from training.core.stages.references import reference_of
from training.core.versions import library_versions

# Completions between two moments at which the records are written down, on each rank.
AT_ONCE = 32


@dataclass(frozen=True)
class ScoreRun:
    """What scoring needs: completions, the reference's log-probs of each, and the policy."""

    run: RunDirectory
    config: RunConfig
    base: BaseModel
    policy: nn.Module
    completions: tuple[EncodedCompletion, ...]
    references: tuple[Tensor, ...]
    receipt: Receipt
    ranks: Ranks
    lanes: Lanes


def run_score(run: RunDirectory, *, config: RunConfig, ranks: Ranks = ALONE) -> None:
    """Write scores.jsonl, a line per completion, and result.json; goes on where it was interrupted.

    Without a parent adapter the policy is the reference, so both log-probs are one and the same number.
    """
    began = time.monotonic()
    job = _prepared(run, config=config, ranks=ranks)
    done = ranks.on_main(lambda: _already_scored(run))
    left = [
        place
        for place, completion in enumerate(job.completions)
        if (completion.id, completion.index) not in done
    ]
    _score(job, left=left)
    ranks.on_main(lambda: _finish(job, seconds=time.monotonic() - began))


def score_completions(job: ScoreRun, *, places: Sequence[int]) -> list[ScoreRecord]:
    """Summed float32 log-probs of the completions at the given places under policy and reference."""
    completions = [job.completions[place] for place in places]
    references = [float(job.references[place].sum()) for place in places]
    policy_logps = references
    if job.config.parent_adapter is not None:
        policy_logps = _policy_logps(job, completions=completions)
    return [
        ScoreRecord(
            id=completion.id,
            index=completion.index,
            tokens=len(completion.completion),
            policy_logp=policy_logp,
            reference_logp=reference_logp,
        )
        for completion, policy_logp, reference_logp in zip(completions, policy_logps, references, strict=True)
    ]


def _policy_logps(job: ScoreRun, *, completions: Sequence[EncodedCompletion]) -> list[float]:
    """Summed log-probs of completions under the policy, in order."""

    def of_pass(groups: Sequence[Group]) -> list[float]:
        raise_if_stopped(where="while scoring")
        every = groups_token_logps(job.policy, groups=groups, chunk_tokens=job.config.chunk_tokens)
        return [float(logps.sum()) for logps in every]

    pairs = [(one.prompt, one.completion) for one in completions]
    with torch.no_grad():
        found = job.lanes.each(of_pass, grouped_passes(pairs, at_once=job.lanes.count))
    return list(chain(*found))


def _prepared(run: RunDirectory, *, config: RunConfig, ranks: Ranks) -> ScoreRun:
    base = find_base(config)
    completions, receipt = _usable_completions(run, config=config, base=base, ranks=ranks)
    policy = load_base(config, base=base)
    if config.parent_adapter is not None:
        policy = load_policy(config, model=policy, trainable=False)
    lanes = open_lanes(policy)
    reference = reference_of(run, config=config, base=base, policy=policy, ranks=ranks, lanes=lanes)
    return ScoreRun(
        run=run,
        config=config,
        base=base,
        policy=policy,
        completions=completions,
        references=reference.of_completions([(item.prompt, item.completion) for item in completions]),
        receipt=receipt,
        ranks=ranks,
        lanes=lanes,
    )


def _usable_completions(
    run: RunDirectory, *, config: RunConfig, base: BaseModel, ranks: Ranks
) -> tuple[tuple[EncodedCompletion, ...], Receipt]:
    tokenizer = load_tokenizer(base)
    rules = encoding_rules(config, base=base, tokenizer=tokenizer)
    encoded = encode_completions(run.examples, tokenizer=tokenizer, rules=rules)
    receipt = encoded.receipt(steps=0)
    if ranks.main:
        write_json(run.receipt, value=asdict(receipt))
    if not encoded.items:
        raise encoded.none_usable()
    return encoded.items, receipt


def _already_scored(run: RunDirectory) -> set[tuple[str, int]]:
    """The completions of an earlier attempt, once its unfinished last line is cut."""
    keep_lines(run.scores, wanted=lambda _: True)
    return {(record.id, record.index) for record in read_scores(run.scores)}


def _score(job: ScoreRun, *, left: Sequence[int]) -> None:
    """Score the completions at the given places, each rank its share; write the records in their order."""
    total = len(job.completions)
    with progress("score", total=total, done=total - len(left)) as shown:
        for start in range(0, len(left), AT_ONCE * job.ranks.size):
            part = left[start : start + AT_ONCE * job.ranks.size]
            _score_part(job, places=part)
            shown.advance(by=len(part))


def _score_part(job: ScoreRun, *, places: Sequence[int]) -> None:
    def own() -> list[ScoreRecord]:
        raise_if_stopped(where=f"at completion {places[0] + 1} of {len(job.completions)}")
        return score_completions(job, places=job.ranks.share(places))

    records = job.ranks.in_order(job.ranks.together(own))
    job.ranks.on_main(lambda: append_lines(job.run.scores, values=[asdict(record) for record in records]))


def _finish(job: ScoreRun, *, seconds: float) -> None:
    records = list(read_scores(job.run.scores))
    log_ratios = [record.policy_logp - record.reference_logp for record in records]
    result = RunResult(
        stage=job.config.stage,
        examples=job.receipt.examples,
        used=job.receipt.used,
        steps=0,
        seconds=seconds,
        base_sha256=job.base.sha256,
        examples_sha256=sha256_of_file(job.run.examples),
        config_sha256=sha256_of_file(job.run.config),
        versions=library_versions(),
        parent_sha256=parent_sha256(job.config),
        log_ratio=fmean(log_ratios),
        log_ratio_per_token=sum(log_ratios) / sum(record.tokens for record in records),
    )
    write_json(job.run.result, value=asdict(result))
    say(f"finished: {len(records)} completions scored, mean log-ratio {fmean(log_ratios):+.3f} nats")

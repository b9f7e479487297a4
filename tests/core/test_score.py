"""Stage score: log-probs of given completions, under policy and reference, without training."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from tests.core.support import config, example, write_run
from training.core.run.config import read_config
from training.core.run.directory import RunDirectory, ScoreExample, write_run_directory
from training.core.run.files import read_json_lines
from training.core.run.records import RunResult, ScoreRecord, read_scores
from training.core.stages import score
from training.core.stages.dpo import run_dpo
from training.core.stages.score import ScoreRun, run_score

COMPLETIONS = (
    ({"role": "assistant", "content": "small house"},),
    ({"role": "assistant", "content": "river"},),
)
PROMPT = ({"role": "user", "content": "light"},)


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory, base_folder: Path) -> Path:
    examples = [
        example(number, prompt=PROMPT, chosen=COMPLETIONS[1], rejected=COMPLETIONS[0]) for number in range(4)
    ]
    run = write_run(tmp_path_factory.mktemp("parent") / "run", base=base_folder, examples=examples)
    run_dpo(run, config=read_config(run.config))
    return run.adapter


def scored(path: Path, *, base: Path, parent: Path | None) -> RunDirectory:
    settings = config(base, stage="score", parent_adapter=str(parent) if parent else None)
    examples = [
        ScoreExample(id="texts", prompt=PROMPT, completions=COMPLETIONS),
        ScoreExample(
            id="ids",
            prompt=PROMPT,
            completions=(COMPLETIONS[0],),
            prompt_token_ids=(5, 6),
            completions_token_ids=((7, 8, 9),),
        ),
        ScoreExample(id="nothing", prompt=PROMPT, completions=(({"role": "assistant", "content": ""},),)),
    ]
    write_run_directory(path, config=settings, examples=examples)
    return RunDirectory(path)


def test_policy_and_reference_log_probs_of_each_completion(
    tmp_path: Path, base_folder: Path, adapter: Path
) -> None:
    run = scored(tmp_path / "run", base=base_folder, parent=adapter)
    run_score(run, config=read_config(run.config))
    records = {(record.id, record.index): record for record in read_scores(run.scores)}
    assert set(records) == {("texts", 0), ("texts", 1), ("ids", 0)}
    assert records["texts", 0].tokens == len("small house") + 1
    assert records["ids", 0].tokens == 3
    long, short = records["texts", 0], records["texts", 1]
    # The parent was trained to prefer the short completion over the long one.
    assert short.policy_logp - short.reference_logp > long.policy_logp - long.reference_logp
    result = RunResult.from_json(json.loads(run.result.read_text()))
    assert (result.stage, result.examples, result.used) == ("score", 3, 2)
    assert json.loads(run.receipt.read_text())["left_out"][0]["id"] == "nothing"


def test_scores_are_those_of_a_naive_forward_pass(tmp_path: Path, base_folder: Path) -> None:
    from transformers import AutoModelForCausalLM

    run = scored(tmp_path / "run", base=base_folder, parent=None)
    run_score(run, config=read_config(run.config))
    (record,) = (record for record in read_scores(run.scores) if record.id == "ids")
    base = AutoModelForCausalLM.from_pretrained(base_folder, dtype=torch.float32)
    with torch.no_grad():
        logps = base(input_ids=torch.tensor([[5, 6, 7, 8, 9]])).logits[0].log_softmax(-1)
    expected = float(logps[1, 7] + logps[2, 8] + logps[3, 9])
    assert record.reference_logp == pytest.approx(expected, abs=1e-4)


def test_without_an_adapter_policy_and_reference_are_one(tmp_path: Path, base_folder: Path) -> None:
    run = scored(tmp_path / "run", base=base_folder, parent=None)
    run_score(run, config=read_config(run.config))
    for record in read_scores(run.scores):
        assert record.policy_logp == record.reference_logp


def test_an_interrupted_scoring_goes_on_where_it_was(
    tmp_path: Path, base_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = scored(tmp_path / "whole", base=base_folder, parent=None)
    run_score(whole, config=read_config(whole.config))
    run = scored(tmp_path / "run", base=base_folder, parent=None)
    lines = whole.scores.read_text().splitlines(keepends=True)
    run.scores.write_text(lines[0] + lines[1][:10])
    computed: list[int] = []
    real = score.score_completions

    def counted(job: ScoreRun, *, places: Sequence[int]) -> list[ScoreRecord]:
        computed.extend(places)
        return real(job, places=places)

    monkeypatch.setattr(score, "score_completions", counted)
    run_score(run, config=read_config(run.config))
    assert computed == [1, 2]
    assert list(read_json_lines(run.scores)) == list(read_json_lines(whole.scores))


def test_what_a_ledger_knows_of_the_reference_is_not_computed_again(
    tmp_path: Path, base_folder: Path, adapter: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = (tmp_path / name for name in ("first", "second"))
    for path in (first, second):
        run = scored(path, base=base_folder, parent=adapter)
        values = json.loads(run.config.read_text())
        run.config.write_text(json.dumps({**values, "ledger": str(tmp_path / "shared.sqlite")}))
    run_score(RunDirectory(first), config=read_config(first / "config.json"))
    asked: list[int] = []
    monkeypatch.setattr(
        "training.core.logprobs.reference.groups_token_logps", lambda *_, **__: asked.append(1)
    )
    run_score(RunDirectory(second), config=read_config(second / "config.json"))
    assert not asked
    assert (second / "scores.jsonl").read_text() == (first / "scores.jsonl").read_text()


def test_the_result_tells_how_far_the_policy_is_from_the_reference(
    tmp_path: Path, base_folder: Path, adapter: Path
) -> None:
    run = scored(tmp_path / "run", base=base_folder, parent=adapter)
    run_score(run, config=read_config(run.config))
    records = list(read_scores(run.scores))
    result = RunResult.from_json(json.loads(run.result.read_text()))
    log_ratios = [record.policy_logp - record.reference_logp for record in records]
    assert result.log_ratio == pytest.approx(sum(log_ratios) / len(records))
    assert result.log_ratio_per_token == pytest.approx(
        sum(log_ratios) / sum(record.tokens for record in records)
    )

"""`make beta-sweep`: what β does, on pairs that the demo model sampled and the demo rule judged.

Each prompt of the demo study is answered twice by the demo model; the rule "fewer words is better" labels
the pairs. Pairs of training prompts train a fresh adapter for each β; those of held-out prompts give margin
and accuracy, and samples of the trained policy on held-out prompts give KL(policy‖reference). Sampled pairs,
runs and the reference's log-probs stay under var/beta-sweep, so that another sweep is quicker.
"""

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import django
import torch
from peft import PeftModel
from torch import nn
from transformers import AutoModelForCausalLM, AutoTokenizer

from benchmarks.sweep_chart import SweepPoint, sweep_chart
from training.core.logprobs.pairs import completion_token_logps
from training.core.model.loading import find_base, load_base, load_policy, reference_mode
from training.core.run.config import RunConfig, parse_config
from training.core.run.directory import DpoExample, RunDirectory, TokenIds, write_run_directory
from training.core.run.files import read_json_lines, write_json, write_json_lines
from training.core.stages.dpo import run_dpo

BETAS = (0.01, 0.1, 0.5, 2.0)
MODEL = Path(os.environ.get("STUDIO_HOME", "var")) / "models" / "SmolLM2-135M-Instruct"
FOLDER = Path("var") / "beta-sweep"
CHART = Path("docs") / "images" / "beta-sweep.svg"
PROMPTS = Path("annotate") / "demo" / "prompts.jsonl"
TOKENS, TOP_P, AT_ONCE = 48, 0.95, 40
RULE = "shorter"


@dataclass(frozen=True)
class Sampled:
    """A prompt of the demo study with what was sampled for it, as token ids."""

    id: str
    split: str
    messages: tuple[dict[str, Any], ...]
    prompt: TokenIds
    completions: tuple[TokenIds, ...]


def main() -> None:
    """Sample, train for each β, measure, and draw docs/images/beta-sweep.svg."""
    torch.manual_seed(0)
    pairs = sampled_pairs()
    points = [point_of(beta, pairs=pairs) for beta in BETAS]
    write_json(FOLDER / "figures.json", value=[asdict(point) for point in points])
    CHART.write_text(sweep_chart(points), encoding="utf-8")
    for point in points:
        print(
            f"β {point.beta:<5g} margin {point.margin:+.3f}  accuracy {point.accuracy:.2f}  "
            f"KL on own samples {point.kl:.2f} nats"
        )
    print(f"drawn: {CHART}")


def sampled_pairs() -> list[Sampled]:
    """Two completions of every demo prompt, from var/beta-sweep or sampled now."""
    stored = FOLDER / "pairs.jsonl"
    if not stored.exists():
        FOLDER.mkdir(parents=True, exist_ok=True)
        tokenizer = AutoTokenizer.from_pretrained(MODEL)
        model = _plain_model()
        prompts = list(read_json_lines(PROMPTS))
        sampled = sample(model, tokenizer=tokenizer, prompts=prompts, each=2)
        write_json_lines(stored, values=[asdict(one) for one in sampled])
    return [_sampled(values) for values in read_json_lines(stored)]


def sample(model: Any, *, tokenizer: Any, prompts: Sequence[dict[str, Any]], each: int) -> Iterator[Sampled]:
    """`each` completions of every prompt, ending with their end token unless they were cut."""
    for start in range(0, len(prompts), AT_ONCE):
        part = prompts[start : start + AT_ONCE]
        encoded = [_prompt_ids(tokenizer, prompt["messages"]) for prompt in part]
        wanted = [ids for ids in encoded for _ in range(each)]
        completions = _generated(model, tokenizer=tokenizer, prompts=wanted)
        for place, (prompt, ids) in enumerate(zip(part, encoded, strict=True)):
            yield Sampled(
                id=prompt["id"],
                split=prompt["split"],
                messages=tuple(prompt["messages"]),
                prompt=ids,
                completions=tuple(completions[place * each : (place + 1) * each]),
            )
        print(f"sampled {min(start + AT_ONCE, len(prompts))} of {len(prompts)} prompts", flush=True)


def point_of(beta: float, *, pairs: Sequence[Sampled]) -> SweepPoint:
    """Train with a β and measure; a run that is finished already is only measured."""
    config = sweep_config(beta)
    run = RunDirectory(FOLDER / f"beta-{beta:g}")
    if not run.config.exists():
        write_run_directory(run.path, config=config, examples=examples(pairs, split="train"))
        heldout = (example.as_json() for example in examples(pairs, split="heldout"))
        write_json_lines(run.heldout, values=heldout)
    if not run.result.exists():
        run_dpo(run, config=config)
    result = json.loads(run.result.read_text(encoding="utf-8"))
    heldout_figures = result["heldout"]
    return SweepPoint(
        beta=beta,
        margin=heldout_figures["eval_rewards/margins"],
        accuracy=heldout_figures["eval_rewards/accuracies"],
        kl=own_sample_kl(config, adapter=run.adapter, pairs=pairs),
    )


def sweep_config(beta: float) -> RunConfig:
    """The demo study's recipe with that β."""
    return parse_config(
        {
            "base_model": str(MODEL),
            "loss": {"name": "dpo", "beta": beta},
            "optimizer": {"learning_rate": 5e-4, "pairs_per_step": 4, "epochs": 1},
            "ledger": str((FOLDER / "ledger.sqlite").resolve()),
        }
    )


def examples(pairs: Sequence[Sampled], *, split: str) -> Iterator[DpoExample]:
    """The labelled pairs of a split; ties are left out."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "dpo_studio.settings")
    django.setup()
    from annotate.models import Verdict
    from annotate.rules import rule_named

    tokenizer = AutoTokenizer.from_pretrained(MODEL)
    for pair in pairs:
        if pair.split != split:
            continue
        texts = [tokenizer.decode(ids, skip_special_tokens=True) for ids in pair.completions]
        verdict = rule_named(RULE)(*texts)
        if verdict == Verdict.TIE:
            continue
        chosen = 0 if verdict == Verdict.A else 1
        yield DpoExample(
            id=pair.id,
            prompt=pair.messages,
            chosen=({"role": "assistant", "content": texts[chosen]},),
            rejected=({"role": "assistant", "content": texts[1 - chosen]},),
            prompt_token_ids=pair.prompt,
            chosen_token_ids=pair.completions[chosen],
            rejected_token_ids=pair.completions[1 - chosen],
        )


def own_sample_kl(config: RunConfig, *, adapter: Path, pairs: Sequence[Sampled]) -> float:
    """KL(policy‖reference) per completion in nats: the mean log-ratio of the policy's own held-out
    samples.
    """
    base = find_base(config)
    values = config.as_json() | {"stage": "score", "parent_adapter": str(adapter)}
    trained = parse_config({key: value for key, value in values.items() if key != "trainable"})
    policy = load_policy(trained, model=load_base(config, base=base), trainable=False)
    prompts = [
        {"id": pair.id, "split": pair.split, "messages": list(pair.messages)}
        for pair in pairs
        if pair.split == "heldout"
    ]
    tokenizer = AutoTokenizer.from_pretrained(MODEL)
    # The trainer's products are of whole rows of tokens, where sampling has one token at a time.
    sampler = PeftModel.from_pretrained(_plain_model(), str(adapter)).eval()
    log_ratios = [
        _log_ratio(policy, prompt=one.prompt, completion=one.completions[0])
        for one in sample(sampler, tokenizer=tokenizer, prompts=prompts, each=1)
    ]
    return sum(log_ratios) / len(log_ratios)


def _plain_model() -> Any:
    return AutoModelForCausalLM.from_pretrained(MODEL, dtype=torch.bfloat16).eval()


def _log_ratio(policy: nn.Module, *, prompt: TokenIds, completion: TokenIds) -> float:
    with torch.no_grad():
        live = completion_token_logps(policy, prompt=prompt, completion=completion).sum()
    with reference_mode(policy):
        reference = completion_token_logps(policy, prompt=prompt, completion=completion).sum()
    return float(live - reference)


@torch.no_grad()
def _generated(model: Any, *, tokenizer: Any, prompts: Sequence[TokenIds]) -> list[TokenIds]:
    """One completion of each prompt, sampled at temperature 1."""
    longest = max(map(len, prompts))
    fill = tokenizer.eos_token_id
    ids = torch.tensor([[fill] * (longest - len(prompt)) + list(prompt) for prompt in prompts])
    mask = torch.tensor([[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts])
    output = model.generate(
        input_ids=ids,
        attention_mask=mask,
        do_sample=True,
        temperature=1.0,
        top_p=TOP_P,
        top_k=0,
        max_new_tokens=TOKENS,
        pad_token_id=fill,
    )
    return [_ended(row[longest:].tolist(), end=fill) for row in output]


def _ended(tokens: list[int], *, end: int) -> TokenIds:
    """The tokens up to and with the first end token, all of them where there is none."""
    return tuple(tokens[: tokens.index(end) + 1] if end in tokens else tokens)


def _prompt_ids(tokenizer: Any, messages: Sequence[dict[str, Any]]) -> TokenIds:
    ids = tokenizer.apply_chat_template(
        list(messages), tokenize=True, add_generation_prompt=True, return_dict=False
    )
    return tuple(ids)


def _sampled(values: dict[str, Any]) -> Sampled:
    return Sampled(
        id=values["id"],
        split=values["split"],
        messages=tuple(values["messages"]),
        prompt=tuple(values["prompt"]),
        completions=tuple(map(tuple, values["completions"])),
    )


if __name__ == "__main__":
    main()

"""What `python -m training.core --help` teaches, and the example that it writes. Imports nothing heavy."""

from pathlib import Path

from training.core.run.config import parse_config
from training.core.run.directory import DpoExample, write_run_directory

DESCRIPTION = """\
Train a language model on preferences (DPO and its kin) or on demonstrations (SFT), or score completions, as a
run directory says. No web app, no account: two files in, an adapter or a model out.

Start here:

  python -m training.core --example my-run        writes my-run/config.json and my-run/examples.jsonl
  python -m training.core my-run                  trains; the adapter is my-run/adapter

A run directory needs two files:

  config.json      {"base_model": "PATH_OR_HUB_ID", "loss": {"name": "dpo", "beta": 0.1},
                    "lora": {"r": 16, "alpha": 32},
                    "optimizer": {"learning_rate": 5e-5, "epochs": 1, "pairs_per_step": 8}}
                   Everything but base_model has a default; an unknown key is refused by name.
  examples.jsonl   one preference a line, in TRL's conversational format:
                   {"prompt": [{"role": "user", "content": "…"}],
                    "chosen": [{"role": "assistant", "content": "…"}], "rejected": [{…}]}
                   Optional: id; p (soft label, the probability that chosen is better); weight; tie (true);
                   prompt_token_ids, chosen_token_ids, rejected_token_ids (trained on as they are).

The reference is the base model itself: frozen, its log-probs computed once and kept in ledger.sqlite.

Stages ("stage" in config.json):

  dpo     (default) train on preferences; "parent_adapter" continues an adapter; "trainable": "full" trains
          every weight instead of LoRA; "evaluation": {"share": 0.1, "patience": 2, "keep_best": true} holds
          a tenth of the prompts out, stops early and keeps the best
  sft     train on demonstrations, {"prompt": […], "completion": […]} a line; gives model/, a new base;
          "evaluation" as above, by the loss of what is held out
  score   log-probs of given completions under policy and reference: {"prompt": […], "completion": […]}, or
          completions: [[…], […]]

Losses ("loss": {"name": …}; other keys in brackets):

  dpo         −log σ(βΔ); soft labels through p [beta]
  cdpo        labels are wrong with a known chance [beta, label_smoothing]
  robust      the same, without its bias [beta, label_smoothing]
  ipo         a fixed margin instead of an endless one, per token; ipo_sum: summed [beta]
  hinge       stops at margin 1 [beta]
  dpo_norm    per-token log-ratios: against growing lengths [beta, about 5]
  simpo       no reference, per-token log-probs [beta, gamma]
  orpo        no reference, SFT and preference in one [lambda]
  kto         single completions with a label (true, false) instead of pairs
              [beta, desirable_weight, undesirable_weight]
  rao_kupper, davidson   "tie": true counts as a verdict of its own [beta, nu]
  Every loss of pairs but orpo takes nll_alpha: adds α × NLL of the chosen completion.
"""
EPILOG = """\
What it writes into the directory:

  receipt.json     how many examples were used, and each one left out with the reason
  metrics.jsonl    a line per optimiser step: loss, rewards, margins, accuracies, log-probs, gradient norm;
                   and one per evaluation, its figures beginning with eval_
  margins.jsonl    per example: margin before the first step and after the last, and in each epoch; log-ratios
                   token by token
  checkpoints/     the newest two; the same command goes on from the newest whole one
  adapter/         PEFT safetensors, model card, probe.json, manifest.json with hashes
  model/           instead of adapter/ in stage sft and with "trainable": "full": a base folder
  scores.jsonl     stage score: id, index, tokens, policy_logp, reference_logp (summed, in nats)
  trained.json     what is known when adapter/ or model/ is written, before the last look at every example
  result.json      final figures and warnings, written last: without it the run is unfinished
  error.json       why the last attempt ended, if it did not finish

A run that was interrupted, even by kill -9, is gone on with by the same command and ends in the same adapter.

Several processes: torchrun --nproc-per-node 2 -m training.core RUN_DIR shares every batch between two
processes; the gradients are those of one. Each holds the whole model; FSDP is not available.

Exit codes:

  0     finished
  1     failed; the last line on stderr and error.json say why (torchrun has no other code)
  2     wrong command line
  74    the disk is full: free some space, and the same command goes on from the last checkpoint
  143   stopped by SIGTERM or Ctrl-C, with a checkpoint

On a terminal there is a progress bar; elsewhere each line on stdout is a JSON object with a "message". On a
CPU, OMP_NUM_THREADS sets the number of threads, on which up to four passes are computed at once. With
STUDIO_DIE_WITH_PARENT=1 the process ends with its parent.
"""
PAIRS = (
    (
        "What is the capital of France?",
        "Paris.",
        "The capital of France is a city that many people like to visit.",
    ),
    ("How many legs has a spider?", "Eight.", "Spiders are arachnids and have several legs on both sides."),
    ("Name a primary colour.", "Red.", "There are many colours, and some of them are called primary ones."),
    (
        "What do bees make?",
        "Honey, and wax.",
        "Bees are busy insects that make a number of things in their hives.",
    ),
    (
        "Which planet is the largest?",
        "Jupiter.",
        "The planets differ in size, and one of them is larger than others.",
    ),
    ("What is 7 times 6?", "42.", "Multiplication gives a number; here it is the product of both of them."),
    (
        "Who wrote Hamlet?",
        "William Shakespeare.",
        "Hamlet is a well known play which was written a long time ago.",
    ),
    ("What is ice made of?", "Water.", "Ice is something cold which forms in winter when it is cold enough."),
)


def write_example(directory: Path, *, base_model: str) -> None:
    """Write a run of eight pairs that prefer short answers. Raises TrainingError if there is one."""
    config = parse_config(
        {
            "base_model": base_model,
            "lora": {"r": 16, "alpha": 32},
            "loss": {"name": "dpo", "beta": 0.1},
            "optimizer": {"learning_rate": 5e-4, "epochs": 3, "pairs_per_step": 4},
        }
    )
    examples = [
        DpoExample(
            id=f"pair-{number}",
            prompt=({"role": "user", "content": prompt},),
            chosen=({"role": "assistant", "content": chosen},),
            rejected=({"role": "assistant", "content": rejected},),
        )
        for number, (prompt, chosen, rejected) in enumerate(PAIRS, start=1)
    ]
    write_run_directory(directory, config=config, examples=examples)

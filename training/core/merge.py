"""`python -m training.core.merge RUN_DIR`: write the base model with an adapter merged into it.

RUN_DIR holds a config.json with `base_model` and `parent_adapter` (as for stage score). It gets `model/`, a
folder that loads without PEFT, and result.json last; error.json says why an attempt ended early.
"""

import sys
from pathlib import Path

from training.core.errors import TrainingError
from training.core.process import exclusive, raise_if_stopped, stop_when_asked
from training.core.progress import Progress, say
from training.core.run.config import RunConfig, read_config
from training.core.run.directory import RunDirectory
from training.core.run.files import sha256_of_model, write_json
from training.parent_death import die_with_parent_if_asked

USAGE = "usage: python -m training.core.merge RUN_DIR"
PARTS = 3


def main() -> int:
    """Merge what the directory on the command line names; returns the exit code."""
    die_with_parent_if_asked()
    stop_when_asked()
    if len(sys.argv) != 2:
        print(USAGE, file=sys.stderr)
        return 2
    run = RunDirectory(Path(sys.argv[1]).resolve())
    try:
        with exclusive(run.lock):
            merge(run)
    except (TrainingError, OSError, MemoryError) as error:
        cause = " ".join(str(error).split()) or type(error).__name__
        if run.path.is_dir():
            write_json(run.error, value={"cause": cause})
        print(cause, file=sys.stderr, flush=True)
        return 1
    return 0


def merge(run: RunDirectory) -> None:
    """Load base and adapter, merge in float32, write model/ in the configured dtype, then result.json.

    Raises TrainingError when a part is missing or damaged, or the process was asked to stop.
    """
    config = read_config(run.config)
    if config.parent_adapter is None:
        raise TrainingError("parent_adapter is missing in config.json; name the adapter to merge")
    if run.result.exists():
        return
    # Imported here so that a refused configuration needs no torch.
    from training.core.model.loading import find_base, load_base, load_policy
    from training.core.model.merging import merged
    from training.core.run.model_folder import write_model

    progress = Progress("merge", total=PARTS)
    base = find_base(config)
    model = load_base(config, base=base)
    progress.advance("base loaded")
    raise_if_stopped(where="after loading the base")
    whole = merged(load_policy(config, model=model, trainable=False))
    progress.advance("adapter merged")
    raise_if_stopped(where="before writing the model")
    write_model(run, model=whole, base=base, card=merged_card(config, base_sha256=base.sha256))
    progress.advance("model written")
    write_json(
        run.result,
        value={"stage": "merge", "base_sha256": base.sha256, "model_sha256": sha256_of_model(run.model)},
    )
    say(f"finished: the merged model is {run.model}")


def merged_card(config: RunConfig, *, base_sha256: str) -> str:
    """README.md of a merged model."""
    return f"""---
base_model: {config.base_model}
library_name: transformers
tags: [dpo, merged]
---
# A base model with its adapter merged

| | |
|---|---|
| Base model | {config.base_model} (safetensors sha256 {base_sha256[:12]}) |
| Adapter | {Path(str(config.parent_adapter)).name} |
| Precision | ΔW added in float32, rounded once to {config.dtype} |

Load it as any model of transformers or vLLM; PEFT is not needed. In {config.dtype} the rounding makes it
differ a little from the base with the adapter beside it. `manifest.json` has the sha256 of each file.
"""


if __name__ == "__main__":
    sys.exit(main())

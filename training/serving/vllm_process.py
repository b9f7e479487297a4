"""vLLM's OpenAI server, no part of which outlives its parent.

`python -m training.serving.vllm_process [vLLM's flags]`; the flags that it needs are in `command`. With
OUTLIVES_PARENT=1 (`server`) its first process, but no other, outlives the shell that started it.

On a CPU machine it puts in what the CPU engine lacks (`cpu_engine`), and the engine and its worker begin as
copies of the server, which has imported all that they need. Elsewhere vLLM spawns them, and each imports this
module again; so what stands at the top happens in every one of them.
"""

from __future__ import annotations

import multiprocessing
import os

from training.parent_death import die_with_parent
from training.serving.command import UNBOUND

if __name__ != "__main__" or os.environ.get("OUTLIVES_PARENT") != "1":
    die_with_parent()
os.register_at_fork(after_in_child=die_with_parent)


def prepare_platform() -> None:
    """Prepare for the platform that vLLM runs on; before anything else of vLLM is imported."""
    from vllm.platforms import current_platform

    if not current_platform.is_cpu():
        return
    # Bound threads must be told before the process begins, so the operator's binding wants spawned processes.
    if os.environ.get("VLLM_CPU_OMP_THREADS_BIND") == UNBOUND:
        from vllm.utils import system_utils

        system_utils.get_mp_context = lambda: multiprocessing.get_context("fork")
    from training.serving.cpu_engine import use_grouped_lora, wait_without_spinning

    use_grouped_lora()
    wait_without_spinning()


prepare_platform()

if __name__ == "__main__":
    # Not vLLM's own command, which looks for the metadata of a package called vllm; on a CPU it is called
    # vllm-cpu.
    from vllm.entrypoints.launchers.api_server.entry import main

    main()

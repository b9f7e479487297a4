"""How a vLLM server is started: flags and environment, for a CPU and for an NVIDIA GPU."""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import shlex
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Device = Literal["cpu", "cuda"]

# LoRA is applied to attention and MLP linear layers alone: they are what training adapts, and wrapping the LM
# head too costs a CPU a quarter of its speed and lets a scoring request beside another one crash the engine.
LORA_MODULES = (
    *("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"),
    *("qkv_proj", "gate_up_proj"),
)
MAX_LORA_RANK = 64
# What VLLM_CPU_OMP_THREADS_BIND says where the system places threads.
UNBOUND = "nobind"
EXTRA_ARGUMENTS_VARIABLE = "VLLM_ARGS"


@dataclass(frozen=True)
class ServerCommand:
    """A command line and its environment."""

    arguments: tuple[str, ...]
    environment: dict[str, str]


def installed_device() -> Device:
    """Return what the installed vLLM runs on; its CPU build is a package of its own name."""
    try:
        importlib.metadata.version("vllm-cpu")
    except importlib.metadata.PackageNotFoundError:
        return "cuda"
    return "cpu"


def served_name(base_model: str) -> str:
    """Return the name under which a server offers its base.

    It tells bases apart, so that a request meant for another base is refused instead of answered by the wrong
    model.
    """
    digest = hashlib.sha256(base_model.encode()).hexdigest()[:8]
    return f"{Path(base_model).name}-{digest}"


def server_command(base_model: str, *, host: str, port: int, device: Device) -> ServerCommand:
    """Return how to start a server for `base_model`; VLLM_ARGS adds flags, which win over ours."""
    arguments = (
        *(sys.executable, "-m", "training.serving.vllm_process"),
        *("--model", base_model, "--served-model-name", served_name(base_model)),
        *("--host", host, "--port", str(port), "--api-server-count", "1"),
        *("--dtype", "bfloat16", "--generation-config", "vllm", "--uvicorn-log-level", "warning"),
        *("--enable-lora", "--max-loras", "2", "--max-cpu-loras", "8", "--max-lora-rank", str(MAX_LORA_RANK)),
        *("--lora-target-modules", *LORA_MODULES),
        *(CPU_ARGUMENTS if device == "cpu" else CUDA_ARGUMENTS),
        *shlex.split(os.environ.get(EXTRA_ARGUMENTS_VARIABLE, "")),
    )
    return ServerCommand(arguments, environment=dict(server_environment(os.environ, device=device)))


CPU_ARGUMENTS = ("--max-num-seqs", "64")
CUDA_ARGUMENTS = ("--gpu-memory-utilization", "0.85")


def server_environment(environ: Mapping[str, str], *, device: Device) -> Mapping[str, str]:
    """Return `environ` with what vLLM needs; what the operator set for a CPU is kept."""
    common = {"VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1", "VLLM_NO_USAGE_STATS": "1", "HF_HUB_OFFLINE": "1"}
    return (cpu_environment() if device == "cpu" else {}) | dict(environ) | common


def cpu_environment() -> dict[str, str]:
    """Return the environment of an engine on a CPU that it shares with training and the web process.

    Every core takes part, none is bound, and a thread without work sleeps: by default vLLM leaves a core out
    and its threads spin, which costs most of the speed as soon as anything else runs.
    """
    return {
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "VLLM_CPU_OMP_THREADS_BIND": UNBOUND,
        "OMP_NUM_THREADS": str(len(os.sched_getaffinity(0))),
        "OMP_WAIT_POLICY": "PASSIVE",
    }

"""How vLLM is started, and what is read out of what it prints."""

import io

import pytest

from training.serving.command import (
    Device,
    installed_device,
    served_name,
    server_command,
    server_environment,
)
from training.serving.output import Output
from training.serving.server import command_of


def flags(device: Device) -> list[str]:
    command = server_command("/models/small", host="127.0.0.1", port=9000, device=device)
    return list(command.arguments)


def value(arguments: list[str], flag: str) -> str:
    return arguments[arguments.index(flag) + 1]


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_server_stays_on_loopback_and_serves_adapters_under_a_name_of_the_base(device: Device) -> None:
    arguments = flags(device)
    assert (value(arguments, "--host"), value(arguments, "--port")) == ("127.0.0.1", "9000")
    assert value(arguments, "--model") == "/models/small"
    assert value(arguments, "--served-model-name") == served_name("/models/small")
    assert "--enable-lora" in arguments
    assert value(arguments, "--generation-config") == "vllm"
    assert value(arguments, "--api-server-count") == "1"


def test_two_bases_of_the_same_folder_name_are_told_apart() -> None:
    names = {served_name("/a/small"), served_name("/b/small"), served_name("org/small")}
    assert len(names) == 3
    assert all(name.startswith("small-") for name in names)


def test_only_a_gpu_gets_a_share_of_its_memory() -> None:
    assert "--gpu-memory-utilization" in flags("cuda")
    assert "--gpu-memory-utilization" not in flags("cpu")


def test_flags_of_the_operator_come_last(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLLM_ARGS", "--max-model-len 4096 --dtype 'float32'")
    assert flags("cpu")[-4:] == ["--max-model-len", "4096", "--dtype", "float32"]


def test_environment_of_the_operator_wins_on_a_cpu_and_adapters_stay_loadable() -> None:
    given = {"VLLM_CPU_OMP_THREADS_BIND": "0-7", "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "0"}
    cpu = server_environment(given, device="cpu")
    assert cpu["VLLM_CPU_OMP_THREADS_BIND"] == "0-7"
    assert cpu["OMP_WAIT_POLICY"] == "PASSIVE"
    assert cpu["VLLM_ALLOW_RUNTIME_LORA_UPDATING"] == "1"
    assert "OMP_WAIT_POLICY" not in server_environment({}, device="cuda")


def test_server_of_ones_own_has_the_studios_flags_and_outlives_its_shell() -> None:
    command = command_of(["/models/small", "--port", "8101", "--max-model-len", "4096"])
    studios = server_command("/models/small", host="127.0.0.1", port=8101, device=installed_device())
    assert command.arguments == (*studios.arguments, "--max-model-len", "4096")
    assert "--lora-target-modules" in command.arguments
    assert command.environment == {**studios.environment, "OUTLIVES_PARENT": "1"}


FAILED_START = b"""\
(APIServer pid=20082) INFO 11-21 19:30:40 [entry.py:120] vLLM API server version 0.32.0
(EngineCore pid=20430) ERROR 11-21 19:33:03 [core.py:1510] EngineCore failed to start.
(EngineCore pid=20430) ERROR 11-21 19:33:03 [core.py:1510] Traceback (most recent call last):
(EngineCore pid=20430) ERROR 11-21 19:33:03 [core.py:1510] ValueError: No memory for the cache blocks.
(APIServer pid=20082)   File "entry.py", line 3, in main
(APIServer pid=20082) RuntimeError: Engine core initialization failed. See root cause above.
"""


@pytest.mark.parametrize(
    ("printed", "shown"),
    [
        (FAILED_START, "ValueError: No memory for the cache blocks."),
        (
            b"api_server.py: error: argument --port: invalid int value: 'x'\n",
            "argument --port: invalid int value",
        ),
        (b"loading\n\nKilled\n\n", "Killed"),
        (b"", ""),
    ],
)
def test_error_shown_is_the_cause_rather_than_its_consequence(printed: bytes, shown: str) -> None:
    output = Output(io.BytesIO(printed))
    output.close()
    assert shown in output.last_error()
    assert "Engine core initialization failed" not in output.last_error()

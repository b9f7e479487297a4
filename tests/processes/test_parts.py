"""The parts of the process manager that need no running product."""

import configparser
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from dpo_studio.processes.demo_model import MANIFEST, is_intact
from dpo_studio.processes.environment import StudioEnvironment, UnusableEnvironment
from dpo_studio.processes.programs import programs, supervisor_configuration
from dpo_studio.processes.status import process_states
from tests.support.studio import alive, wait_until


def names(**environ: str) -> list[str]:
    return [program.name for program in programs(StudioEnvironment.read(environ))]


def test_all_programs_run_by_default() -> None:
    assert names() == ["valkey", "web", "worker-sampling", "worker-training", "reconcile", "engine"]


def test_own_queue_and_engines_leave_out_ours() -> None:
    given = names(REDIS_URL="redis://queue:6379/0", VLLM_URLS="http://gpu:8000")
    assert given == ["web", "worker-sampling", "worker-training", "reconcile"]


def test_defaults_are_loopback_8000_and_var() -> None:
    studio = StudioEnvironment.read({})
    assert studio.bind_address == "127.0.0.1:8000"
    assert studio.home == Path("var").resolve()
    assert studio.models == Path("var/models").resolve()
    assert studio.demo


@pytest.mark.parametrize(
    ("variable", "value", "sentence"),
    [
        ("PORT", "http", "PORT = 'http' must be a number from 1 to 65535; 8000 is the default."),
        ("PORT", "0", "PORT = '0' must be a number from 1 to 65535; 8000 is the default."),
        ("PORT", "65536", "PORT = '65536' must be a number from 1 to 65535; 8000 is the default."),
        ("DEMO", "perhaps", "DEMO = 'perhaps' must be 1 or 0."),
        (
            "STUDIO_HOME",
            "/" + "x" * 90,
            "is too long a path for the sockets inside it; choose one of at most",
        ),
    ],
)
def test_unusable_setting_is_named_with_its_remedy(variable: str, value: str, sentence: str) -> None:
    with pytest.raises(UnusableEnvironment) as refused:
        StudioEnvironment.read({variable: value})
    assert sentence in str(refused.value)


def test_page_is_reached_on_loopback_when_bound_to_every_address() -> None:
    assert StudioEnvironment.read({"BIND": "0.0.0.0", "PORT": "81"}).local_url == "http://127.0.0.1:81"
    assert StudioEnvironment.read({"BIND": "::1", "PORT": "81"}).local_url == "http://[::1]:81"


def test_percent_signs_in_paths_reach_the_programs_unchanged() -> None:
    text = supervisor_configuration(StudioEnvironment.read({"STUDIO_HOME": "/tmp/100%s"}))
    parser = configparser.RawConfigParser()
    parser.read_string(text)
    assert parser["program:web"]["stdout_logfile"] == "/tmp/100%%s/log/web.log"
    assert parser["program:web"]["autorestart"] == "true"


def test_no_supervisor_means_no_processes(tmp_path: Path) -> None:
    assert process_states(tmp_path / "supervisor.sock") == []


def test_demo_model_is_intact_only_with_every_file_in_full(tmp_path: Path) -> None:
    assert not is_intact(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"12345")
    (tmp_path / MANIFEST).write_text(json.dumps({"model.safetensors": 5}))
    assert is_intact(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"1234")
    assert not is_intact(tmp_path)


CHILD = """
import time
from training.parent_death import die_with_parent
{call}
print("up", flush=True)
time.sleep(60)
"""
PARENT = """
import subprocess, sys, time
from training.parent_death import die_with_parent
die_with_parent()
child = subprocess.Popen([sys.executable, "-c", sys.argv[1]], stdout=subprocess.PIPE)
child.stdout.readline()
print(child.pid, flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize("call", ["die_with_parent()", "die_with_parent(); die_with_parent()"])
def test_child_dies_when_its_parent_is_killed(call: str) -> None:
    child = CHILD.format(call=call)
    parent = subprocess.Popen([sys.executable, "-c", PARENT, child], stdout=subprocess.PIPE, env=clean())
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    assert alive([pid]) == [pid]
    parent.kill()
    parent.wait()
    wait_until(lambda: alive([pid]) == [], seconds=5, what="end of the child")


def test_child_orphaned_before_it_asked_stops_at_once() -> None:
    environment = clean() | {"STUDIO_PARENT_PID": "1000000000"}
    command = [sys.executable, "-c", CHILD.format(call="die_with_parent()")]
    orphan = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=30)
    assert orphan.returncode == 1
    assert "The parent process 1000000000 ended before this one began" in orphan.stderr


def test_program_takes_the_place_of_the_wrapper_and_keeps_its_wish() -> None:
    wrapper = [sys.executable, "-m", "dpo_studio.processes.exec_child", "--signal", "TERM", "--"]
    shown = subprocess.run(
        [*wrapper, sys.executable, "-c", READ_WISH], env=clean(), capture_output=True, text=True, timeout=30
    )
    assert shown.stdout.split() == [str(int(signal.SIGTERM))], shown.stderr


# prctl(PR_GET_PDEATHSIG = 2)
READ_WISH = (
    "import ctypes; wish = ctypes.c_int(); ctypes.CDLL(None).prctl(2, ctypes.byref(wish)); print(wish.value)"
)


def clean() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name != "STUDIO_PARENT_PID"}

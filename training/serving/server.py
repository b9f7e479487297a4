"""A vLLM server of your own, for `VLLM_URLS`.

`python -m training.serving.server MODEL [--port N] [vLLM's flags]`

It becomes vLLM with the flags and the environment that the studio gives its own engine; flags named on the
command line win. It runs until it is stopped, whatever becomes of the shell that started it.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import sys
from collections.abc import Sequence

from training.serving.command import ServerCommand, installed_device, server_command

PORT = 8100


def command_of(arguments: Sequence[str]) -> ServerCommand:
    """Return how to start the server that a command line asks for."""
    parser = argparse.ArgumentParser(
        prog="python -m training.serving.server",
        description="Start vLLM as the studio needs it. Flags of vLLM's own may follow; they win.",
        allow_abbrev=False,
    )
    parser.add_argument("model", help="the study's base model: a folder, or a name of the Hugging Face Hub")
    parser.add_argument("--host", default="127.0.0.1", help="where to listen (default: %(default)s)")
    parser.add_argument("--port", type=int, default=PORT, help="default: %(default)s")
    asked, flags = parser.parse_known_args(arguments)
    command = server_command(asked.model, host=asked.host, port=asked.port, device=installed_device())
    return dataclasses.replace(
        command,
        arguments=(*command.arguments, *flags),
        environment=command.environment | {"OUTLIVES_PARENT": "1"},
    )


def main() -> None:
    command = command_of(sys.argv[1:])
    os.execve(command.arguments[0], list(command.arguments), command.environment)


if __name__ == "__main__":
    main()

"""`python -m dpo_studio.processes up` runs the studio in the foreground; `status` lists its processes."""

from __future__ import annotations

import argparse
import os
import sys

from dpo_studio.processes.environment import StudioEnvironment, UnusableEnvironment
from dpo_studio.processes.launcher import CannotStart, up
from dpo_studio.processes.status import process_states


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m dpo_studio.processes", description=__doc__)
    parser.add_argument("action", choices=["up", "status"])
    action = parser.parse_args().action
    try:
        studio = StudioEnvironment.read(os.environ)
        return up(studio) if action == "up" else print_status(studio)
    except (CannotStart, UnusableEnvironment) as error:
        print(error, file=sys.stderr)
        return 1


def print_status(studio: StudioEnvironment) -> int:
    states = process_states(studio.supervisor_socket)
    for state in states:
        print(f"{state.name:<16} {state.state:<9} {state.description}")
    if not states:
        print(f"Nothing runs in {studio.home}.")
    return 0 if states else 1


if __name__ == "__main__":
    sys.exit(main())

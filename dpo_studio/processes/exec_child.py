"""Become another program that dies with its parent.

`python -m dpo_studio.processes.exec_child [--signal SIGNAL] [--nice N] -- COMMAND …`
"""

from __future__ import annotations

import argparse
import os
import signal

from training.parent_death import die_with_parent


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m dpo_studio.processes.exec_child", description=__doc__)
    parser.add_argument(
        "-s", "--signal", default="KILL", help="what the program is sent when its parent ends"
    )
    parser.add_argument("--nice", type=int, default=0, help="by how much others go before the program")
    parser.add_argument("command", nargs="+")
    arguments = parser.parse_args()
    die_with_parent(signal_number=signal.Signals[f"SIG{arguments.signal}"])
    os.nice(arguments.nice)
    os.execvp(arguments.command[0], arguments.command)


if __name__ == "__main__":
    main()

"""`make loop`: go around the loop unattended, on real parts, and say what was learned."""

import argparse
import os
import signal
import sys
from pathlib import Path
from types import FrameType

import django

from dpo_studio.loop.product import LoopFailed, environment, keep_home, running_product


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m dpo_studio.loop", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="how many rounds to go (default: 3)")
    parser.add_argument(
        "--rule", default="shorter", help="what the simulated annotator prefers (default: shorter)"
    )
    parser.add_argument(
        "--home", type=Path, help="scratch STUDIO_HOME (default: $STUDIO_HOME, else var/loop)"
    )
    parser.add_argument(
        "--sweep", type=int, default=2, help="the round in which other values of β are tried too (2; 0: none)"
    )
    parser.add_argument(
        "--keep",
        action="store_true",
        help="open one more round for people to label, and leave the home to them: no later loop empties it",
    )
    parser.add_argument("--port", type=int, default=int(os.environ.get("PORT") or 8765))
    parser.add_argument("--output", type=Path, help="where to write loop.json (default: in the scratch home)")
    arguments = parser.parse_args()
    if arguments.rounds < 1:
        parser.error(f"--rounds = {arguments.rounds} must be at least 1")
    return arguments


def stop_on_signals() -> None:
    """On Ctrl-C and SIGTERM end with every process stopped, also where a shell made us ignore SIGINT."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)


def main() -> int:
    arguments = parse_arguments()
    stop_on_signals()
    home = (arguments.home or Path(os.environ.get("STUDIO_HOME") or "var/loop")).resolve()
    output = arguments.output or home / "loop.json"
    # Django in this process reads the same database.
    os.environ.update(environment(home=home, port=arguments.port))
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "dpo_studio.settings")
    try:
        with running_product(home=home, port=arguments.port):
            django.setup()
            from dpo_studio.loop import journey  # its models need Django set up

            journey.go_around(
                port=arguments.port,
                rounds=arguments.rounds,
                rule=arguments.rule,
                output=output,
                sweep=arguments.sweep,
            )
            if arguments.keep:
                journey.leave_a_round_open(port=arguments.port)
                keep_home(home)
    except LoopFailed as error:
        print(f"make loop: {error}", file=sys.stderr)
        return 1
    if arguments.keep:
        models = os.environ["STUDIO_MODELS"]
        print(f"kept; look at it with: make run STUDIO_HOME={home} STUDIO_MODELS={models}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

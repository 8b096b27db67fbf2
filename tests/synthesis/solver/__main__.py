"""``python -m tests.synthesis.solver --port 0``: serves until it is ended; prints its base URL first.

``--problems 300`` writes problems as JSON lines to stdout and ends; the corpus is ``theorems.jsonl`` in this folder.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from dataclasses import fields

from tests.synthesis.solver.mind import Mind
from tests.synthesis.solver.server import Faults, Load, Solver
from tests.synthesis.solver.world import problems


async def _serve(solver: Solver) -> None:
    async with solver:
        print(solver.url, flush=True)
        await asyncio.Event().wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--model", default="solver")
    parser.add_argument("--problems", type=int)
    settings = {}
    for kind in (Mind, Load, Faults):
        for field in fields(kind):
            if isinstance(field.default, int | float):
                name = field.name.replace("_", "-")
                parser.add_argument(f"--{name}", type=type(field.default), default=field.default)
                settings[field.name] = kind
    for name in ("storm", "down"):
        parser.add_argument(f"--{name}", type=float, nargs=2, default=(0.0, 0.0), metavar=("FROM", "UNTIL"))
        settings[name] = Faults
    chosen = vars(parser.parse_args())
    if chosen["problems"]:
        for problem in problems(chosen["problems"]):
            print(json.dumps(problem))
        return

    def make(kind: type) -> object:
        given = {name: chosen[name] for name, of in settings.items() if of is kind}
        return kind(**{name: tuple(value) if isinstance(value, list) else value for name, value in given.items()})

    try:
        solver = Solver(make(Mind), make(Load), make(Faults), model=chosen["model"], port=chosen["port"])
        asyncio.run(_serve(solver))
    except KeyboardInterrupt:
        pass


if __name__ == "__main__":
    main()

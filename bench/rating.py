"""Throughput of ratings on the tests' reference solver, and what a kill in the middle costs.

    python bench/rating.py                                   # 10,000 pairs, 64 slots, killed once
    python bench/rating.py --pairs 2000 --kills 3
    python bench/rating.py --first-token-seconds 0.05 --token-seconds 0.005     # a fast server: the client's limit

The solver serves a number of slots, in a process of its own; a rating takes its first token's time and then that of
some seven tokens. ``busy`` is the share of the slots in use while pairs are rated. The peer is a client that waits for
all answers of a batch, as large as the slots, before it asks for the next one.

Then the same pairs are rated in a process that is killed (``kill -9``) after a random number of them and started again.
Answers that the server gives while its client dies are lost; they are counted. What is in the cache when a client
starts, it must not ask for: how often the last one did is printed at the end.
"""

from __future__ import annotations

import argparse
import random
import re
import sqlite3
import subprocess
import sys
import tempfile
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

from harness import interleave, report

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

BUSY, CALLS = "solver:busy_seconds_total", "solver:calls_total"
SYSTEMS = ["batches", "radar"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=10_000)
    parser.add_argument("--slots", type=int, default=64)
    parser.add_argument("--first-token-seconds", type=float, default=0.3)
    parser.add_argument("--token-seconds", type=float, default=0.025)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--kills", type=int, default=1)
    parser.add_argument("--system", choices=SYSTEMS, help=argparse.SUPPRESS)
    parser.add_argument("--rate", nargs=2, metavar=("URL", "CACHE"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.rate:
        rate(*arguments.rate, arguments)
        return
    if arguments.system:
        run(arguments)
        return
    names = ("pairs", "slots", "first_token_seconds", "token_seconds")
    shared = [text for name in names for text in (f"--{name.replace('_', '-')}", str(getattr(arguments, name)))]
    figures = interleave(__file__, SYSTEMS, arguments.rounds, shared)
    known = kill_and_resume(arguments)
    ours, peer = figures["radar"], figures["batches"]
    print(f"\npairs a second                  {ours['pairs_per_second']:8.1f}")
    print(f"slots busy                      {ours['busy']:8.2f}     (aim: at least 0.9)")
    print(f"CPU of a pair, ms               {ours['cpu_ms_per_pair']:8.2f}")
    print(f"faster than batches             {ours['pairs_per_second'] / peer['pairs_per_second']:8.2f} x")
    print(f"asked for though in the cache   {known:8d}     (aim: 0)")


def pairs(number: int) -> Any:
    """A result frame of so many different pairs: problems and theorems of the solver's world, 50 to a query."""
    import pandas as pd

    from tests.synthesis.solver import problems, theorems

    texts = list(theorems().items())[:50]
    asked = problems(-(-number // 50))
    rows = [(known["id"], known["problem"], docno, text) for known in asked for docno, text in texts]
    return pd.DataFrame(rows[:number], columns=["qid", "query", "docno", "text"])


def metric(url: str, name: str) -> float:
    with urllib.request.urlopen(url.removesuffix("/v1") + "/metrics") as answer:
        return float(re.search(rf"^{name}{{.*}} (\S+)$", answer.read().decode(), re.MULTILINE)[1])


def serve(arguments: argparse.Namespace) -> Any:
    from tests.synthesis.parts import solver_process

    options = ["--slots", arguments.slots, "--first-token-seconds", arguments.first_token_seconds]
    return solver_process(*options, "--token-seconds", arguments.token_seconds)


def run(arguments: argparse.Namespace) -> None:
    """One system in this process, a solver of its own in another."""
    from pyterrier_radar import RatingReranker

    work = {"radar": radar, "batches": batches}[arguments.system]
    frame = pairs(arguments.pairs)
    with tempfile.TemporaryDirectory() as folder, serve(arguments) as url:
        rating = RatingReranker(
            "solver", url=url, cache=Path(folder) / "calls.sqlite", in_flight=arguments.slots * 3 // 2
        )
        began, cpu = time.perf_counter(), time.process_time()
        work(rating, frame, arguments.slots)
        seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
        busy = metric(url, BUSY) / (arguments.slots * seconds)
    report(
        pairs_per_second=round(len(frame) / seconds, 1),
        seconds=round(seconds, 2),
        busy=round(busy, 3),
        cpu_ms_per_pair=round(1000 * cpu / len(frame), 2),
    )


def radar(rating: Any, frame: Any, slots: int) -> None:
    rating(frame)


def batches(rating: Any, frame: Any, slots: int) -> None:
    """A batch of requests, then the next one: what a thread pool's ``map`` over chunks does."""
    import openai

    from pyterrier_radar._llm import prompt

    client = openai.OpenAI(base_url=rating.url, api_key="none", max_retries=0)
    template = prompt("rating_general")

    def ask(pair: tuple[str, str]) -> str:
        filled = template.fill(query=pair[0], document=pair[1], answer_form="Answer with one line.")
        answer = client.chat.completions.create(
            model="solver", messages=list(filled.messages), max_tokens=32, temperature=0.6, top_p=0.9
        )
        return answer.choices[0].message.content

    asked = list(zip(frame["query"], frame["text"], strict=True))
    with ThreadPoolExecutor(slots) as pool:
        for start in range(0, len(asked), slots):
            list(pool.map(ask, asked[start : start + slots]))


def rate(url: str, cache: str, arguments: argparse.Namespace) -> None:
    """What is killed."""
    from pyterrier_radar import RatingReranker

    RatingReranker("solver", url=url, cache=cache, in_flight=arguments.slots * 3 // 2)(pairs(arguments.pairs))


def answers(cache: Path) -> int:
    """How many there are, read while another process may write."""
    if not cache.exists():
        return 0
    with closing(sqlite3.connect(cache)) as database:
        return database.execute("SELECT count(*) FROM calls").fetchone()[0]


def kill_and_resume(arguments: argparse.Namespace) -> int:
    """Prints what each process came to; returns how many answers were asked for though they were in the cache."""
    moments, again = random.Random(0), 0
    shares = sorted(moments.random() for _ in range(arguments.kills))
    with tempfile.TemporaryDirectory() as folder, serve(arguments) as url:
        cache = Path(folder) / "calls.sqlite"
        command = [sys.executable, __file__, "--pairs", str(arguments.pairs), "--slots", str(arguments.slots)]
        for share in [*shares, None]:
            calls, known = metric(url, CALLS), answers(cache)
            with subprocess.Popen([*command, "--rate", url, str(cache)]) as process:
                while share is not None and metric(url, CALLS) < share * arguments.pairs:
                    time.sleep(0.05)
                if share is not None:
                    process.kill()
            time.sleep(1)  # the server notices that its client is gone
            answered, kept = int(metric(url, CALLS) - calls), answers(cache) - known
            end = "finished" if share is None else "killed"
            print(f"{end}: {known} known at the start, {answered} answered by the server, {kept} new ones kept")
            again = answered - kept  # of the last one, which nobody killed: what was known
        print(f"{answers(cache)} pairs kept, {int(metric(url, CALLS))} answers given by the server")
    return again


if __name__ == "__main__":
    main()

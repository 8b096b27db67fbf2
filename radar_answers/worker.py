"""Computes with answers by math-verify; a process of its own, because some answers can only be stopped by killing it.

Started by :mod:`radar_answers.processes` as a script, with the deadline in seconds. It reads one JSON array a line. Of
``[gold, answer]`` it writes whether they are equal, ``true`` or ``false``; of ``[answer]`` its value, a number;
``null`` stands for an error, and for what is no number. Before the first one it writes ``ready``, when all that loads
lazily is loaded, or why it cannot work.
"""

import json
import logging
import math
import os
import signal
import sys
from contextlib import suppress
from typing import Any

MOST_MEMORY = 4 * 2**30


def main(deadline: float) -> None:
    """Answers until its input ends."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # whatever libraries print stays out of the answers
    try:
        from math_verify import parse, verify
    except ImportError as error:
        print(f"{error}: install math-verify (pip install 'pyterrier-radar[answers]')", file=answers, flush=True)
        return
    logging.disable()
    _limit_memory()
    verify(parse("$1+1$", parsing_timeout=None), parse("$2$", parsing_timeout=None), timeout_seconds=None)
    print("ready", file=answers, flush=True)
    for line in sys.stdin:
        texts = json.loads(line)
        # Whoever asks kills this process at the deadline. If he was killed himself, the alarm does, in C code too.
        signal.setitimer(signal.ITIMER_REAL, 2 * deadline)
        said = None
        with suppress(Exception):
            # math-verify's own time-outs are off: they need signals, and C code doesn't heed those
            sides = [parse(f"${text}$", parsing_timeout=None) for text in texts]
            # the order, gold first, matters
            said = _value(sides[0][0]) if len(sides) == 1 else bool(verify(*sides, timeout_seconds=None))
        signal.setitimer(signal.ITIMER_REAL, 0)
        print(json.dumps(said), file=answers, flush=True)


def _value(expression: Any) -> float | None:
    """The number that an expression is; None if it is infinite, an error if it is none."""
    value = float(expression.evalf())
    return value if math.isfinite(value) else None


def _limit_memory() -> None:
    with suppress(ImportError, ValueError, OSError):
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MOST_MEMORY, resource.getrlimit(resource.RLIMIT_AS)[1]))


if __name__ == "__main__":
    main(float(sys.argv[1]))

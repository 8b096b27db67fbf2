"""Compares answers by math-verify; a process of its own, because some answers can only be stopped by killing it.

Started by :mod:`synthesis.verifier.processes` as a script, with the deadline in seconds. It reads one JSON array
``[gold, answer]`` a line and writes ``true``, ``false`` or ``null``, which stands for an error; before the first one it
writes ``ready``, when all that loads lazily is loaded, or why it cannot work.
"""

import json
import logging
import os
import signal
import sys
from contextlib import suppress

MOST_MEMORY = 4 * 2**30


def main(deadline: float) -> None:
    """Answers until its input ends."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # whatever libraries print stays out of the answers
    try:
        from math_verify import parse, verify
    except ImportError as error:
        print(f"{error}: install math-verify (pip install 'pyterrier-radar[synthesis]')", file=answers, flush=True)
        return
    logging.disable()
    _limit_memory()
    verify(parse("$1+1$", parsing_timeout=None), parse("$2$", parsing_timeout=None), timeout_seconds=None)
    print("ready", file=answers, flush=True)
    for line in sys.stdin:
        gold, answer = json.loads(line)
        # Whoever asks kills this process at the deadline. If he was killed himself, the alarm does, in C code too.
        signal.setitimer(signal.ITIMER_REAL, 2 * deadline)
        equal = None
        with suppress(Exception):
            # math-verify's own time-outs are off: they need signals, and C code doesn't heed those
            sides = [parse(f"${text}$", parsing_timeout=None) for text in (gold, answer)]
            equal = bool(verify(*sides, timeout_seconds=None))  # the order, gold first, matters
        signal.setitimer(signal.ITIMER_REAL, 0)
        print(json.dumps(equal), file=answers, flush=True)


def _limit_memory() -> None:
    with suppress(ImportError, ValueError, OSError):
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MOST_MEMORY, resource.getrlimit(resource.RLIMIT_AS)[1]))


if __name__ == "__main__":
    main(float(sys.argv[1]))

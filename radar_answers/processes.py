"""math-verify in processes that are killed when an answer takes too long."""

from __future__ import annotations

import asyncio
import json
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from contextlib import suppress
from pathlib import Path
from typing import Any

_START_SECONDS = 120.0  # importing sympy on a machine that is busy


class MathProcesses:
    """Up to ``number`` worker processes; each is started when first needed and again after it was killed.

    Args:
        number: Processes.
        deadline: Seconds for one question, from when it is handed to a process.
    """

    def __init__(self, number: int, deadline: float):
        self._deadline = deadline
        self._free = asyncio.Semaphore(number)
        self._idle: list[Process] = []

    async def equal(self, gold: str, answer: str) -> bool | None:
        """Says whether an answer equals the gold answer; None if the comparison failed or took too long.

        Raises:
            OSError: If no process can be started.
        """
        return await self._ask([gold, answer])

    async def value(self, answer: str) -> float | None:
        """Returns the number that an answer is; None if it is none, or computing it took too long.

        Raises:
            OSError: If no process can be started.
        """
        return await self._ask([answer])

    async def _ask(self, texts: list[str]) -> Any:
        async with self._free:
            process = await self._process()
            said = b""
            try:
                assert process.stdin is not None and process.stdout is not None
                process.stdin.write(json.dumps(texts).encode() + b"\n")
                with suppress(TimeoutError, ConnectionError):
                    async with asyncio.timeout(self._deadline):
                        said = await process.stdout.readline()
            finally:  # cancelled, too: then its answer would be taken for that of the next question
                if said:
                    self._idle.append(process)
                else:
                    await _kill(process)
            return json.loads(said) if said else None

    async def close(self) -> None:
        """Ends the processes."""
        while self._idle:
            await _kill(self._idle.pop())

    async def _process(self) -> Process:
        while self._idle:
            process = self._idle.pop()
            if process.returncode is None:  # else somebody else ended it
                return process
        return await self._start()

    async def _start(self) -> Process:
        script = str(Path(__file__).with_name("worker.py"))
        # -P: this package's folder, where the script lies, is no place to import from
        command = [sys.executable, "-P", "-X", "utf8", script, str(self._deadline)]
        process = await asyncio.create_subprocess_exec(*command, stdin=PIPE, stdout=PIPE, stderr=DEVNULL)
        said = ""
        try:
            assert process.stdout is not None
            with suppress(TimeoutError):
                async with asyncio.timeout(_START_SECONDS):
                    said = (await process.stdout.readline()).decode().strip()
        finally:
            if said != "ready":
                await _kill(process)
        if said != "ready":
            raise OSError(f"the process that compares answers didn't start: {said or 'it gave no reason'}")
        return process


async def _kill(process: Process) -> None:
    with suppress(ProcessLookupError):
        process.kill()
    await process.wait()

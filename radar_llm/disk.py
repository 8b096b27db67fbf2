"""What a full disk does to a run: it waits, with what it has in its hands, and goes on when there is space again."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import Awaitable, Callable

from radar_llm.calls import Usage

logger = logging.getLogger(__name__)

_SECONDS = 5.0  # between two attempts


async def despite_full_disk(write: Callable[[], Awaitable[object]], usage: Usage) -> None:
    """Writes; while the disk is full, again and again, and ``usage.held`` counts what waits.

    Args:
        write: Writes to a database.
        usage: Whoever sees in it that something is held asks for nothing more.

    Raises:
        sqlite3.OperationalError: If it fails for any other reason.
    """
    is_held = False
    try:
        while True:
            try:
                await write()
                return
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_FULL:
                    raise
            if not is_held:
                is_held = True
                usage.held += 1
                if usage.held == 1:
                    logger.warning("the disk is full: the work waits, and goes on by itself when there is space again")
            await asyncio.sleep(_SECONDS)
    finally:
        usage.held -= is_held


async def wait_for_space(usage: Usage) -> None:
    """Waits until nothing is held."""
    while usage.held:
        await asyncio.sleep(_SECONDS)

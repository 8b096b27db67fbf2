"""How a run stands, for people: a few live lines on a terminal, now and then a line of text anywhere else."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, TextIO

from radar_llm.calls import Usage

if TYPE_CHECKING:
    from rich.console import Group

_LINE_SECONDS = 30.0


@dataclass
class Status:
    """Where a run stands.

    Attributes:
        total: Problems of this run.
        kept: Those of them that were in the store when it began.
        solved: Those in the store with a rollout of reward 1.
        finished: Problems put into the store by this run.
        under_way: Problems being worked on.
        usage: What the generator has done.
        began: When the run began, by the monotonic clock.
        state: What is happening, where it is not simply going on.
    """

    total: int
    kept: int = 0
    solved: int = 0
    finished: int = 0
    under_way: int = 0
    usage: Usage = field(default_factory=Usage)
    began: float = field(default_factory=time.monotonic)
    state: str = ""

    @property
    def done(self) -> int:
        """Problems in the store."""
        return self.kept + self.finished

    @property
    def seconds(self) -> float:
        """Seconds since the run began."""
        return time.monotonic() - self.began

    @property
    def rewarded(self) -> float | None:
        """The share of problems in the store with a rollout of reward 1."""
        return self.solved / self.done if self.done else None

    @property
    def problems_per_hour(self) -> float | None:
        """The pace of this run; None before its first problem."""
        return 3600 * self.finished / self.seconds if self.finished and self.seconds else None

    @property
    def seconds_left(self) -> float | None:
        """Seconds until all is done, at this pace."""
        pace = self.problems_per_hour
        return None if pace is None else 3600 * (self.total - self.done) / pace

    def figures(self) -> dict[str, str]:
        """Returns what there is to show, each figure with its name."""
        usage = self.usage
        asked = usage.calls + usage.cached
        done = f"{self.done:,} of {self.total:,} ({_share(self.done, self.total)})"
        return {
            "problems": f"{done}, {self.under_way} under way",
            "rewarded so far": "–" if self.rewarded is None else f"{100 * self.rewarded:.1f}%",
            "calls": f"{usage.calls:,} answered, {usage.failed:,} failed, {usage.retried:,} retried",
            "from the cache": f"{usage.cached:,} ({_share(usage.cached, asked)})",
            "tokens": f"{_short(usage.prompt_tokens)} read, {_short(usage.generated_tokens)} written",
            "in flight": f"{usage.in_flight:,}",
            "problems/h": "–" if self.problems_per_hour is None else f"{self.problems_per_hour:,.0f}",
            "time": f"{duration(self.seconds)} gone, {duration(self.seconds_left)} left",
        }


class Progress(Protocol):
    """What shows a run; all methods are called from the event loop's thread."""

    def show(self, status: Status) -> None:
        """Shows how the run stands; called several times a second, and once more at its end."""

    def note(self, message: str) -> None:
        """Says something that happened."""


class Silent:
    """Shows nothing."""

    def show(self, status: Status) -> None:
        """See :class:`Progress`."""

    def note(self, message: str) -> None:
        """See :class:`Progress`."""


class Lines:
    """A line every half minute, for logs.

    Args:
        stream: Where they go.
        every: Seconds between two lines.
    """

    def __init__(self, stream: TextIO, every: float = _LINE_SECONDS):
        self._stream, self._every = stream, every
        self._next = 0.0
        self._last: Status | None = None

    def show(self, status: Status) -> None:
        """See :class:`Progress`."""
        self._last = status
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + self._every
            self._print(status)

    def note(self, message: str) -> None:
        """See :class:`Progress`."""
        print(message, file=self._stream, flush=True)

    def __enter__(self) -> Lines:
        return self

    def __exit__(self, *_: object) -> None:
        if self._last is not None:
            self._print(self._last)

    def _print(self, status: Status) -> None:
        figures = " · ".join(f"{name} {figure}" for name, figure in status.figures().items())
        self.note(f"{figures} · {status.state}" if status.state else figures)


class Live:
    """A bar and the figures, kept up to date on a terminal; notes scroll by above them."""

    def __init__(self, stream: TextIO):
        from rich.console import Console
        from rich.live import Live as RichLive

        self._console = Console(file=stream, highlight=False, markup=False, emoji=False)
        self._live = RichLive(console=self._console, refresh_per_second=4, redirect_stdout=False)

    def show(self, status: Status) -> None:
        """See :class:`Progress`."""
        self._live.update(_panel(status))

    def note(self, message: str) -> None:
        """See :class:`Progress`."""
        self._console.print(message)

    def __enter__(self) -> Live:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()


@contextmanager
def showing(stream: TextIO | None = None) -> Iterator[Progress]:
    """Shows a run on a stream, by default stderr, and what this package logs meanwhile."""
    target = stream or sys.stderr
    with Live(target) if target.isatty() else Lines(target) as progress:
        with _logging_to(progress):
            yield progress


def duration(seconds: float | None) -> str:
    """Returns a length of time as people say it."""
    if seconds is None:
        return "–"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days} d {hours} h"
    if hours:
        return f"{hours} h {minutes:02} min"
    return f"{minutes} min {rest:02} s" if minutes else f"{rest} s"


@contextmanager
def _logging_to(progress: Progress) -> Iterator[None]:
    class Notes(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            progress.note(self.format(record))

    logger, handler = logging.getLogger("synthesis"), Notes(logging.WARNING)
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)


def _panel(status: Status) -> Group:
    from rich.console import Group
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", justify="right")
    table.add_column()
    for name, figure in status.figures().items():
        table.add_row(name, figure)
    bar = ProgressBar(total=max(1, status.total), completed=status.done, width=72)
    return Group(bar, table, Text(status.state, style="bold yellow"))


def _share(part: int, whole: int) -> str:
    return f"{100 * part / whole:.0f}%" if whole else "–"


def _short(number: int) -> str:
    for size, name in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:.1f}{name}"
    return str(number)

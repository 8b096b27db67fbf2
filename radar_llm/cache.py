"""Every call of a language model with its answer, in SQLite: what was asked once is not asked again, and can be shown.

Two tables. ``calls`` has a row for each answered call; ``openings`` holds, once each, all messages of a prompt but the
last: instructions and examples, which thousands of calls share. The view ``prompts`` joins them for any SQLite tool.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable
from hashlib import blake2b
from pathlib import Path
from typing import Any

from radar_llm.calls import Completion, Request

SCHEMA = 1

_TABLES = """
CREATE TABLE openings (digest TEXT PRIMARY KEY, messages TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE calls (key TEXT PRIMARY KEY, request TEXT NOT NULL, completion TEXT NOT NULL) WITHOUT ROWID;
CREATE VIEW prompts AS SELECT key, messages AS opening, json_extract(request, '$.message.content') AS message,
    json_extract(completion, '$.text') AS answer
    FROM calls LEFT JOIN openings ON digest = json_extract(request, '$.opening');
"""


class CacheError(OSError):
    """A file that is no call cache, one of another version, or one that cannot be opened now."""


def call_key(model: str, request: Request, sample: int) -> str:
    """Returns the key of a call: 32 hexadecimal digits of everything that its answer depends on."""
    described = _parameters(model, request, sample) | {"messages": list(request.prompt.messages)}
    return _digest(json.dumps(described))


class CallCache:
    """The calls of one run, or of many; several processes may share the file.

    A call is durable against the end of the process as soon as :meth:`put` returns; after a power failure the last
    ones may be missing.

    Args:
        path: The file, made where it is missing; ``":memory:"`` keeps calls for this process alone.

    Raises:
        CacheError: If the file is something else, or cannot be opened now.
    """

    def __init__(self, path: str | Path):
        self.path = str(path)
        if self.path != ":memory:":
            Path(path).parent.mkdir(parents=True, exist_ok=True)
        # Calls come from one event loop, which may be in another thread than this line.
        self._database = sqlite3.connect(self.path, timeout=60.0, isolation_level=None, check_same_thread=False)
        try:
            self._prepare()
        except sqlite3.OperationalError as error:  # locked, or a full disk
            self._database.close()
            raise CacheError(
                f"{path} cannot be opened now ({error}): try again when no program holds it and the disk has space"
            ) from error
        except sqlite3.DatabaseError as error:
            self._database.close()
            raise CacheError(f"{path} is no call cache ({error}): choose another file") from error
        self._openings: set[str] = set()

    def _prepare(self) -> None:
        run = self._database.execute
        run("PRAGMA journal_mode = WAL")
        run("PRAGMA synchronous = NORMAL")  # in WAL mode safe against kills; a sync for each call would be slow
        run("BEGIN IMMEDIATE")
        version = run("PRAGMA user_version").fetchone()[0]
        if version == 0 and not run("SELECT 1 FROM sqlite_master").fetchone():
            for statement in _TABLES.split(";\n"):
                run(statement)
            run(f"PRAGMA user_version = {SCHEMA}")
        elif version != SCHEMA or not run("SELECT 1 FROM sqlite_master WHERE name = 'openings'").fetchone():
            raise sqlite3.DatabaseError(f"its version is {version}, and {SCHEMA} is read here")
        run("COMMIT")

    def __len__(self) -> int:
        return self._database.execute("SELECT count(*) FROM calls").fetchone()[0]

    def get(self, key: str) -> Completion | None:
        """Returns a call's answer."""
        row = self._database.execute("SELECT completion FROM calls WHERE key = ?", (key,)).fetchone()
        return None if row is None else Completion(**json.loads(row[0]), call=key, is_cached=True)

    def put(self, key: str, model: str, request: Request, sample: int, completion: Completion) -> None:
        """Keeps a call's answer; of a key that is there already, the first answer stays."""
        *opening, last = request.prompt.messages
        digest = self._keep_opening(json.dumps(opening))
        asked = _parameters(model, request, sample) | {"opening": digest, "message": last}
        answered = {name: value for name, value in vars(completion).items() if name not in ("call", "is_cached")}
        self._database.execute(
            "INSERT OR IGNORE INTO calls VALUES (?, ?, ?)", (key, json.dumps(asked), json.dumps(answered))
        )

    def read(self, key: str) -> dict[str, Any] | None:
        """Returns all that is known of a call: ``model``, ``prompt``, ``messages``, parameters and ``completion``."""
        row = self._database.execute(
            "SELECT request, completion, messages FROM calls "
            "LEFT JOIN openings ON digest = json_extract(request, '$.opening') WHERE key = ?",
            (key,),
        ).fetchone()
        if row is None:
            return None
        request, completion, opening = map(json.loads, row)
        del request["opening"]
        return request | {"messages": [*opening, request.pop("message")], "completion": completion}

    def merge(self, paths: Iterable[str | Path]) -> None:
        """Takes over the calls of other caches, those of the shards of a run."""
        for path in paths:
            if not Path(path).is_file():
                raise CacheError(f"{path}: there is no such call cache")
            CallCache(path).close()  # it is one, of this version
            self._database.execute("ATTACH ? AS other", (str(path),))
            try:
                for table in ("openings", "calls"):
                    self._database.execute(f"INSERT OR IGNORE INTO {table} SELECT * FROM other.{table}")
            finally:
                self._database.execute("DETACH other")

    def close(self) -> None:
        """Closes the file."""
        self._database.close()

    def _keep_opening(self, messages: str) -> str:
        digest = _digest(messages)
        if digest not in self._openings:
            self._database.execute("INSERT OR IGNORE INTO openings VALUES (?, ?)", (digest, messages))
            self._openings.add(digest)
        return digest


def _parameters(model: str, request: Request, sample: int) -> dict[str, Any]:
    return {
        "model": model,
        "prompt": request.prompt.name,
        "version": request.prompt.version,
        "temperature": request.sampling.temperature,
        "top_p": request.sampling.top_p,
        "top_k": request.sampling.top_k,
        "max_tokens": request.sampling.max_tokens,
        "stop": list(request.sampling.stop),
        "seed": request.seed,
        "choice": list(request.sampling.choice),
        "logprobs": request.sampling.logprobs,
        "sample": sample,
    }


def _digest(text: str) -> str:
    return blake2b(text.encode(), digest_size=16).hexdigest()

"""Requests and completions as the JSON of the OpenAI protocol."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

from radar_llm.calls import Request

# What an endpoint may not know. Without them an answer is freer, less repeatable or without probabilities, but usable.
OPTIONAL = ("structured_outputs", "logprobs", "top_k", "seed")


class GarbledError(ValueError):
    """An answer that isn't what the protocol says."""


@dataclass(frozen=True)
class Answer:
    """One choice of a response; the fields are those of :class:`Completion`."""

    text: str
    finish_reason: str
    prompt_tokens: int
    generated_tokens: int
    choice_probabilities: dict[str, float] | None


def body(model: str, request: Request, sample: int, without: Collection[str] = ()) -> dict[str, Any]:
    """Returns the JSON of a chat completion, less the optional fields that the endpoint doesn't know.

    ``structured_outputs`` is vLLM's; its older ``guided_choice`` is accepted there and ignored.
    """
    optional: dict[str, Any] = {"seed": sample_seed(request.seed, sample)}
    if request.sampling.top_k:
        optional["top_k"] = request.sampling.top_k
    if request.sampling.choice:
        optional["structured_outputs"] = {"choice": list(request.sampling.choice)}
    if request.sampling.logprobs:
        optional["logprobs"] = True
    sent = {
        "model": model,
        "messages": list(request.prompt.messages),
        "temperature": request.sampling.temperature,
        "top_p": request.sampling.top_p,
        "max_tokens": request.sampling.max_tokens,
    } | {name: value for name, value in optional.items() if name not in without}
    if "logprobs" in sent:
        sent["top_logprobs"] = request.sampling.logprobs
    if request.sampling.stop:
        sent["stop"] = list(request.sampling.stop)
    return sent


def sample_seed(seed: int, sample: int) -> int:
    """Returns the seed that is sent: far apart for neighbouring seeds and samples, and 31 bits for any server."""
    return int.from_bytes(blake2b(f"{seed} {sample}".encode(), digest_size=4).digest(), "little") >> 1


def read(payload: object, choice: Sequence[str]) -> Answer:
    """Reads the first choice of a response.

    Raises:
        GarbledError: If it isn't the JSON of a chat completion.
    """
    try:
        first = payload["choices"][0]  # type: ignore[index]
        text = first["message"].get("content") or ""
        usage = payload.get("usage") or {}  # type: ignore[attr-defined]
        return Answer(
            text if text.isascii() else text.encode("utf-8", "replace").decode(),  # no file can hold half a pair
            str(first.get("finish_reason") or ""),
            int(usage.get("prompt_tokens") or 0),
            int(usage.get("completion_tokens") or 0),
            _choice_probabilities(first, choice) if choice else None,
        )
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise GarbledError(f"the answer is no chat completion ({type(error).__name__}: {error})") from error


def error_message(content: bytes) -> str:
    """Returns what the body of an error says: its message, or all of it where it isn't of the protocol."""
    try:
        payload = json.loads(content)
        message = payload.get("error", payload)["message"]
    except (ValueError, RecursionError, AttributeError, KeyError, TypeError):
        message = None
    return message if isinstance(message, str) else content.decode("utf-8", "replace")


def _choice_probabilities(first: dict[str, Any], choice: Sequence[str]) -> dict[str, float] | None:
    """Returns the probabilities of the choices by their first tokens, what else might come left out.

    A token counts for the choice that it alone can begin: "T" and "True" both stand for True.
    """
    positions = (first.get("logprobs") or {}).get("content") or []
    mass = dict.fromkeys(choice, 0.0)
    for token in positions[0].get("top_logprobs") or [] if positions else []:
        start = token["token"].strip()
        begun = [text for text in choice if start and text.startswith(start)]
        if len(begun) == 1:
            mass[begun[0]] += math.exp(token["logprob"])
    total = sum(mass.values())
    return {text: share / total for text, share in mass.items()} if total > 0 else None

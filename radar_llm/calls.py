"""What a language model is asked and what it answers."""

from __future__ import annotations

from dataclasses import dataclass

from radar_llm.prompts import Prompt, Sampling


@dataclass(frozen=True)
class Request:
    """A prompt and how it is to be answered; one request may be sampled many times.

    Attributes:
        prompt: The messages, with the prompt's name and version.
        sampling: How the model is asked.
        seed: With the sample's number it gives the seed that is sent.
    """

    prompt: Prompt
    sampling: Sampling = Sampling()
    seed: int = 0


@dataclass(frozen=True)
class Completion:
    """An answer.

    Attributes:
        text: What the model wrote; may be empty.
        finish_reason: ``"stop"``, ``"length"``, or whatever else the endpoint says.
        prompt_tokens: Tokens read, 0 where the endpoint doesn't count.
        generated_tokens: Tokens written.
        choice_probabilities: The probability of each choice, summing to 1; None without choices or log-probabilities.
        call: The call's key in the call cache.
        is_cached: Whether no call of its own was needed.
    """

    text: str
    finish_reason: str
    prompt_tokens: int
    generated_tokens: int
    choice_probabilities: dict[str, float] | None
    call: str
    is_cached: bool


@dataclass
class Usage:
    """What a generator has done so far.

    Attributes:
        calls: Calls answered by a server.
        cached: Calls answered by the cache, or by the answer to an equal call under way.
        failed: Calls given up.
        retried: Attempts after the first ones.
        prompt_tokens: Tokens read, cached answers not counted.
        generated_tokens: Tokens written, cached answers not counted.
        in_flight: Attempts under way now.
        held: Answers and records that wait now for space on a full disk.
        busy_seconds: Time that attempts were under way, in the server's queue or in a slot, added up.
    """

    calls: int = 0
    cached: int = 0
    failed: int = 0
    retried: int = 0
    prompt_tokens: int = 0
    generated_tokens: int = 0
    in_flight: int = 0
    held: int = 0
    busy_seconds: float = 0.0


class GenerationError(RuntimeError):
    """This call cannot be answered: it was refused, or its retries are spent while others were answered."""


class ServerError(ConnectionError):
    """No call can be answered: a wrong model, a refused key, no server or one that fails."""

"""What a language model is asked and what it answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from synthesis.actions import Prompt, Sampling


@dataclass(frozen=True)
class Request:
    """A prompt and how it is to be answered; one request may be sampled many times.

    Attributes:
        prompt: The messages, with the prompt's name and version.
        temperature: 0 for the most probable answer.
        top_p: Nucleus of the distribution that is sampled from.
        top_k: Tokens that are sampled from; 0 for all.
        max_tokens: Tokens after which an answer is cut off.
        stop: Texts at which an answer ends; they are not part of it.
        seed: With the sample's number it gives the seed that is sent.
        choice: If given, the only answers there are, where the endpoint can constrain them.
        logprobs: Most probable first tokens whose probabilities are asked for; 0 for none.
    """

    prompt: Prompt
    temperature: float = 0.8
    top_p: float = 0.95
    top_k: int = 40
    max_tokens: int = 512
    stop: tuple[str, ...] = ()
    seed: int = 0
    choice: tuple[str, ...] = ()
    logprobs: int = 0

    @classmethod
    def of(cls, prompt: Prompt, sampling: Sampling, seed: int = 0) -> Request:
        """Returns a prompt to be answered as an action's sampling says."""
        return cls(
            prompt,
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            top_k=sampling.top_k,
            max_tokens=sampling.max_tokens,
            stop=sampling.stop,
            seed=seed,
            choice=sampling.choice,
            logprobs=sampling.logprobs,
        )


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

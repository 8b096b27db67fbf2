"""Prompts from text files, and how a model is asked to answer them.

A prompt file is a dialogue: lines ``[system]``, ``[user]`` and ``[assistant]`` begin its messages. Placeholders are
written ``{{name}}`` and may stand in the last message only, so all that comes before is the same for every request and
a server's prefix cache keeps it. They are filled in one pass: what is put in, LaTeX or not, is never read again.
"""

from __future__ import annotations

import hashlib
import math
import re
from dataclasses import dataclass

_ROLE = re.compile(r"^\[(system|user|assistant)\]\n", re.MULTILINE)
_PLACEHOLDER = re.compile(r"\{\{(\w+)\}\}")


@dataclass(frozen=True)
class Prompt:
    """The messages of one chat request.

    Attributes:
        messages: Each with the keys ``role`` and ``content``.
        name: Its file, without the suffix.
        version: The hash of that file's text: results of two versions are not results of one prompt.
    """

    messages: tuple[dict[str, str], ...]
    name: str
    version: str


@dataclass(frozen=True)
class Sampling:
    """How the model is asked; the defaults are RaDeR's for solving problems.

    Attributes:
        temperature: 0 for the most probable answer.
        top_p: Nucleus of the distribution that is sampled from.
        top_k: Tokens that are sampled from; 0 for all.
        max_tokens: Tokens after which an answer is cut off.
        stop: Texts at which an answer ends; they are not part of it.
        choice: If given, the only answers there are, where the endpoint can constrain them.
        logprobs: Most probable first tokens whose probabilities are asked for; 0 for none.

    Raises:
        ValueError: For a number out of range; it names it.
    """

    temperature: float = 0.8
    top_p: float = 0.95
    top_k: int = 40
    max_tokens: int = 512
    stop: tuple[str, ...] = ()
    choice: tuple[str, ...] = ()
    logprobs: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.temperature < math.inf:
            raise ValueError(f"temperature is {self.temperature}: it must be 0 or more")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"top_p is {self.top_p}: it must be above 0, up to 1")
        if self.top_k < 0:
            raise ValueError(f"top_k is {self.top_k}: it must be 0, for all tokens, or more")
        if self.max_tokens < 1:
            raise ValueError(f"max_tokens is {self.max_tokens}: it must be 1 or more")


@dataclass(frozen=True)
class Template:
    """A prompt file: fixed messages, and a last one with placeholders."""

    fixed: tuple[dict[str, str], ...]
    last: str
    name: str
    version: str

    @classmethod
    def of(cls, name: str, text: str) -> Template:
        """Reads the text of a prompt file.

        Raises:
            ValueError: If it is no dialogue that ends with the user, or has a placeholder before the last message.
        """
        before, *parts = _ROLE.split(text)
        messages = [{"role": role, "content": body.strip()} for role, body in zip(parts[::2], parts[1::2], strict=True)]
        if before.strip() or not messages or messages[-1]["role"] != "user":
            raise ValueError(f"prompt {name}: write messages under [system], [user] and [assistant], [user] last")
        *fixed, last = messages
        if early := [found for message in fixed for found in _PLACEHOLDER.findall(message["content"])]:
            raise ValueError(f"prompt {name}: {{{{{early[0]}}}}} stands before the last message: move it there")
        return cls(tuple(fixed), last["content"], name, hashlib.sha256(text.encode()).hexdigest()[:16])

    def fill(self, **values: str) -> Prompt:
        """Returns the prompt with these values for its placeholders.

        Raises:
            ValueError: For a placeholder without a value, or a value without a placeholder.
        """
        wanted = set(_PLACEHOLDER.findall(self.last))
        if wanted != set(values):
            raise ValueError(f"prompt {self.name} has the placeholders {sorted(wanted)}, not {sorted(values)}")
        content = _PLACEHOLDER.sub(lambda found: values[found[1]], self.last)
        return Prompt((*self.fixed, {"role": "user", "content": content}), self.name, self.version)

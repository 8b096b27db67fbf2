"""The language model behind an OpenAI-protocol endpoint: prompts in, completions out; it knows no mathematics.

``wire`` is the JSON of requests and answers, ``server`` one base URL behind its ``gate``, ``generator`` the rest:
the call cache, the choice of a server, retries.
"""

from synthesis.calls import Completion, GenerationError, Request, ServerError, Usage
from synthesis.generator.generator import Generator

__all__ = ["Completion", "GenerationError", "Generator", "Request", "ServerError", "Usage"]

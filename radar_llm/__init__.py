"""The language model behind an OpenAI-protocol endpoint: prompts in, completions out; it knows no task.

``prompts`` are dialogues from text files, ``cache`` keeps every answer, ``wire`` is the JSON of requests and answers,
``server`` one base URL behind its ``gate``, ``generator`` the rest: the choice of a server, retries. ``synthesis`` and
``pyterrier_radar``'s LLM transformers stand on it.
"""

from radar_llm.cache import CallCache
from radar_llm.calls import Completion, GenerationError, Request, ServerError, Usage
from radar_llm.checked import CheckedLate
from radar_llm.generator import Generator
from radar_llm.prompts import Prompt, Sampling, Template

__all__ = [
    "CallCache",
    "CheckedLate",
    "Completion",
    "GenerationError",
    "Generator",
    "Prompt",
    "Request",
    "Sampling",
    "ServerError",
    "Template",
    "Usage",
]

"""Everything that decides what a run makes, as one checked value and one YAML file; the defaults are the paper's.

``paper.yaml`` beside this file holds the same values, each with where it comes from. A file need name only what it
changes; a key that doesn't exist, a value of the wrong type or out of range is an error before any work.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from difflib import get_close_matches
from hashlib import blake2b
from importlib import resources
from pathlib import Path
from typing import Any, Literal

from synthesis.actions import (
    Candidates,
    Completion,
    CompletionSampling,
    Reflection,
    ReflectionReason,
    SameAnswer,
    Sampling,
    Summary,
    Thought,
)
from synthesis.samples.settings import SampleSettings
from synthesis.tree import TreeSettings

PAPER = "paper"

_SEARCH_ACTIONS = (Thought(), Completion(), Candidates(), Reflection(), ReflectionReason(), Summary(), SameAnswer())


class SettingsError(ValueError):
    """Settings that cannot be followed; the message names the file or override, the key, and what would be right."""


@dataclass(frozen=True)
class GeneratorSettings:
    """The language model and how it is reached; only its name decides what is made.

    Attributes:
        urls: Base URLs of OpenAI-protocol servers that all have the model.
        model: The model's name there.
        in_flight: The most calls under way at one time on each server.
        queue_limit: The most calls that may wait in a server's own queue, where it tells.
        timeout: Seconds one attempt at a call may take.
        retries: Attempts after the first.
    """

    urls: tuple[str, ...] = ("http://localhost:8000/v1",)
    model: str = "Qwen/Qwen2.5-7B-Instruct"
    in_flight: int = 96
    queue_limit: int = 32
    timeout: float = 600.0
    retries: int = 10


@dataclass(frozen=True)
class RetrieverSettings:
    """What ranks the theorems.

    Attributes:
        kind: ``bm25``; ``encoder``, a checkpoint in this process; ``endpoint``, an embedding server.
        model: The encoder's checkpoint (None: the small default), or the model's name at the endpoint. Whatever the
            kind, it is also what mines dense negatives.
        url: The endpoint's base URL.
        query_prefix: Put before a query that is sent to the endpoint.
        theorem_prefix: Put before a theorem that is sent to the endpoint.
        batch: The most queries ranked together; 1 makes the scores of an encoder repeat to the last digit.
    """

    kind: Literal["bm25", "encoder", "endpoint"] = "bm25"
    model: str | None = None
    url: str = "http://localhost:8001/v1"
    query_prefix: str = "query: "
    theorem_prefix: str = "document: "
    batch: int = 64

    def __post_init__(self) -> None:
        if self.kind == "endpoint" and not self.model:
            raise ValueError("an endpoint needs the name of its model: set retriever.model")


@dataclass(frozen=True)
class ActionSettings:
    """How the model is sampled by each action of the search.

    ``choice`` and ``logprobs`` belong to the actions: a file of settings holds neither.
    """

    thought: Sampling = Thought().sampling
    completion: CompletionSampling = Completion().sampling
    candidates: Sampling = Candidates().sampling
    reflection: Sampling = Reflection().sampling
    reflection_reason: Sampling = ReflectionReason().sampling
    summary: Sampling = Summary().sampling
    same_answer: Sampling = SameAnswer().sampling


@dataclass(frozen=True)
class ConsensusSettings:
    """Self-consistency: what stands in for the answer of a problem that has none.

    Attributes:
        samples: Solutions drawn before the search; the answer most of them agree on is taken for the gold answer. 0
            refuses problems without an answer.
        share: The least share of the solutions that must agree; below it the problem is recorded without a search.
    """

    samples: int = 0
    share: float = 0.5

    def __post_init__(self) -> None:
        if self.samples < 0 or not 0 < self.share <= 1:
            raise ValueError(f"samples is {self.samples}, share {self.share}: at least 0, and above 0 up to 1")


@dataclass(frozen=True)
class VerifierSettings:
    """How answers are compared.

    Attributes:
        workers: Processes of math-verify.
        deadline: Seconds for one comparison.
        judge: Whether the language model is asked about an answer that nothing else found equal to the gold answer.
    """

    workers: int = 1
    deadline: float = 5.0
    judge: bool = False

    def __post_init__(self) -> None:
        if self.workers < 1:
            raise ValueError(f"workers is {self.workers}: it must be 1 or more")
        if not self.deadline > 0:
            raise ValueError(f"deadline is {self.deadline}: it must be more than 0 seconds")


@dataclass(frozen=True)
class Budget:
    """Where a run ends, finished or not; None is no limit. It counts for one process: each start, and each shard.

    Attributes:
        calls: LLM calls answered by a server.
        tokens: Tokens read and written by a server.
        seconds: Wall-clock seconds.
    """

    calls: int | None = None
    tokens: int | None = None
    seconds: float | None = None

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value is not None and not value > 0:
                raise ValueError(f"{name} is {value}: it must be more than 0, or null for no limit")


@dataclass(frozen=True)
class Settings:
    """The settings of a run.

    Attributes:
        problems: File of the problems.
        corpus: File of the theorems.
        seed: Of everything that is drawn.
        generator: The language model.
        retriever: What ranks theorems.
        tree: The search.
        actions: How the model is sampled.
        reasons: Whether reflection also gives its reason, a call of its own for each theorem.
        consensus: What is done with problems without an answer.
        verifier: How answers are compared.
        samples_ahead: Samples of one completion under way at one time. 1 spends nothing on samples after the right
            one; more is faster while the server has slots to spare. The tree is the same.
        concurrency: Problems worked on at once.
        longest_first: Whether long problems are begun first, so that none of them is begun last.
        budget: Where the run ends.
        samples: How training samples are made of the records.
    """

    problems: str | None = None
    corpus: str | None = None
    seed: int = 0
    generator: GeneratorSettings = field(default_factory=GeneratorSettings)
    retriever: RetrieverSettings = field(default_factory=RetrieverSettings)
    tree: TreeSettings = field(default_factory=TreeSettings)
    actions: ActionSettings = field(default_factory=ActionSettings)
    reasons: bool = False
    consensus: ConsensusSettings = field(default_factory=ConsensusSettings)
    verifier: VerifierSettings = field(default_factory=VerifierSettings)
    samples_ahead: int = 1
    concurrency: int = 256
    longest_first: bool = False
    budget: Budget = field(default_factory=Budget)
    samples: SampleSettings = field(default_factory=SampleSettings)

    __pydantic_config__ = {"strict": True}  # of this and the dataclasses in it: "3" is no number, 1 is not true

    def __post_init__(self) -> None:
        for name in ("samples_ahead", "concurrency"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}: it must be 1 or more")

    @classmethod
    def load(cls, source: str | Path = PAPER, overrides: Sequence[str] = ()) -> Settings:
        """Reads a YAML file.

        Args:
            source: The file, or ``"paper"``; what it leaves out keeps its default. Paths in it are relative to it.
            overrides: ``"key=value"`` strings with dotted keys and YAML values, over the file. Paths in them are
                relative to the working directory.

        Raises:
            SettingsError: For a key or value that is not right, or a file that is no YAML.
            OSError: If the file cannot be read.
        """
        given = _read(source)
        values = _merged(_of_files(cls()), given, str(source))
        for override in overrides:
            values = _merged(values, _placed(_parsed_override(override), Path()), f"--set {override}")
        return cls._checked(values, f"{source}, with what was set over it" if overrides else str(source))

    @classmethod
    def _checked(cls, values: Mapping[str, Any], source: str) -> Settings:
        from pydantic import TypeAdapter, ValidationError

        whole = _merged(asdict(cls()), values, source)
        try:
            # By way of JSON, in which a list may stand for a tuple and nothing else for anything.
            return TypeAdapter(cls).validate_json(json.dumps(whole))
        except ValidationError as error:
            first = error.errors()[0]
            key = ".".join(map(str, first["loc"]))
            said = first["msg"].removeprefix("Value error, ")
            raise SettingsError(f"{source}: {key or 'the settings'}: {said}") from error

    def save(self, path: Path) -> None:
        """Writes every value as YAML."""
        import yaml

        from synthesis.files import write_text

        values = json.loads(json.dumps(_of_files(self)))
        write_text(path, yaml.safe_dump(values, sort_keys=False, allow_unicode=True))

    def identity(self) -> dict[str, Any]:
        """Returns what a problem's record depends on: these settings and the versions of the prompts, as plain JSON.

        Addresses, limits and numbers of workers are left out: they change when a record is made, not what it says.
        """
        values = asdict(self)
        wanted = ("seed", "tree", "actions", "reasons", "consensus")
        retriever = {name: values["retriever"][name] for name in _identifying(self.retriever.kind)}
        prompts = {prompt.name: prompt.version for prompt in _search_prompts()}
        identity = {name: values[name] for name in wanted} | {"model": self.generator.model, "prompts": prompts}
        # A comparison that comes to no end before the deadline is a reward of 0.
        verifier = {"judge": self.verifier.judge, "deadline": self.verifier.deadline}
        return json.loads(json.dumps(identity | {"retriever": retriever, "verifier": verifier}))

    def digest(self, corpus: str) -> str:
        """Returns a configuration's name: 16 hexadecimal digits of :meth:`identity` and the corpus's digest."""
        described = json.dumps({"corpus": corpus} | self.identity(), sort_keys=True)
        return blake2b(described.encode(), digest_size=8).hexdigest()


def differences(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """Yields, for two :meth:`Settings.identity`, each value that differs, as a sentence's part."""
    for name in old.keys() | new.keys():
        before, after = old.get(name), new.get(name)
        if isinstance(before, Mapping) and isinstance(after, Mapping):
            yield from differences(before, after, f"{prefix}{name}.")
        elif before != after:
            yield f"{prefix}{name} was {before!r} and is {after!r}"


def _identifying(kind: str) -> tuple[str, ...]:
    return {
        "bm25": ("kind",),
        "encoder": ("kind", "model"),
        "endpoint": ("kind", "model", "query_prefix", "theorem_prefix"),
    }[kind]


def _of_files(settings: Settings) -> dict[str, Any]:
    """Returns the settings that files hold and overrides may change."""
    values = asdict(settings)
    for sampling in values["actions"].values():
        del sampling["choice"], sampling["logprobs"]
    return values


def _search_prompts() -> Iterator[Any]:
    thought, completion, candidates, reflection, reason, summary, same_answer = _SEARCH_ACTIONS
    yield from (action.prompt("", ()) for action in (thought, completion, candidates))
    yield reflection.prompt("", (), "")
    yield reason.prompt("", (), "", True)
    yield summary.prompt("")
    yield same_answer.prompt("", "", "")


def _read(source: str | Path) -> dict[str, Any]:
    import yaml

    if source == PAPER:
        text = (resources.files("synthesis") / "paper.yaml").read_text(encoding="utf-8")
    else:
        text = Path(source).read_text(encoding="utf-8")
    try:
        values = yaml.safe_load(text) or {}
    except (yaml.YAMLError, RecursionError) as error:
        raise SettingsError(f"{source}: not readable as YAML ({' '.join(str(error).split())})") from error
    if not isinstance(values, dict):
        raise SettingsError(f"{source}: must be a mapping of keys to values")
    return _placed(values, Path(source).parent)


def _placed(values: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Returns values with the paths among them absolute, so that they mean the same wherever they are saved."""
    paths = {name: values[name] for name in ("problems", "corpus") if isinstance(values.get(name), str)}
    return values | {name: str((folder / Path(path).expanduser()).absolute()) for name, path in paths.items()}


def _parsed_override(override: str) -> dict[str, Any]:
    import yaml

    key, equals, text = override.partition("=")
    if not equals or not all(key.split(".")):
        raise SettingsError(f"--set {override}: must be key=value, as in tree.rollouts=8")
    try:
        value = yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError) as error:
        raise SettingsError(f"--set {override}: value not readable as YAML ({' '.join(str(error).split())})") from error
    for part in reversed(key.strip().split(".")):
        value = {part: value}
    return value


def _merged(values: Mapping[str, Any], given: Mapping[Any, Any], source: str, prefix: str = "") -> dict[str, Any]:
    """Returns the values with the given ones over them, key by key, however deep."""
    merged = dict(values)
    for name, value in given.items():
        if name not in values:
            near = get_close_matches(str(name), list(values), n=1)
            hint = f"did you mean {prefix}{near[0]}?" if near else f"known: {', '.join(values)}"
            raise SettingsError(f"{source}: {prefix}{name}: unknown key; {hint}")
        if isinstance(values[name], Mapping) and isinstance(value, Mapping):
            value = _merged(values[name], value, source, f"{prefix}{name}.")
        merged[name] = value
    return merged

"""Synthesis on a real vLLM server; ``tests/vllm.py`` says what that needs.

The model is tiny and random, so its answers are noise: what is tested is the protocol, and that noise harms nothing.
"""

from __future__ import annotations

import asyncio
import logging
import math
import re
import shutil
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from radar_llm import Generator
from radar_llm import server as server_module
from radar_llm.cache import CallCache
from radar_llm.calls import GenerationError, Request, ServerError
from radar_llm.prompts import Sampling
from synthesis.actions import Candidates, Completion, Reflection, Relevance, Summary, Thought
from synthesis.engine import RunReport
from synthesis.retriever import EncoderTheorems, EndpointTheorems
from synthesis.run import CACHE_FILE, STORE_FILE, synthesize
from synthesis.settings import ActionSettings, GeneratorSettings, Settings
from synthesis.store import Store
from synthesis.tree import TreeSettings
from tests.models import save_qwen_chat
from tests.radar_llm.test_generator import run
from tests.synthesis.parts import content
from tests.synthesis.solver import problems, theorems
from tests.training.test_export import base, retriever, runs  # noqa: F401 (fixtures)
from tests.vllm import MODEL, needs_vllm, server
from torch_radar import Encoder

SLOTS, LONGEST = 8, 4096
PROBLEMS = problems(8)
CORPUS = dict(islice(theorems().items(), 30))

pytestmark = needs_vllm


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_qwen_chat(tmp_path_factory.mktemp("chat") / "model")


@pytest.fixture(scope="module")
def url(model: Path) -> Iterator[str]:
    log = model.parent / "vllm.log"
    with server(model, log, "--max-num-seqs", str(SLOTS), "--max-model-len", str(LONGEST)) as address:
        yield address


def client(url: str, **settings: Any) -> Generator:
    return Generator([url], **{"cache": CallCache(":memory:"), "model": MODEL} | settings)


def request(number: int = 0, **settings: Any) -> Request:
    return Request(Thought().prompt(PROBLEMS[number]["problem"], ()), Sampling(**{"max_tokens": 24} | settings))


def reflection(docno: str) -> Request:
    return Request(Reflection().prompt(PROBLEMS[0]["problem"], (), CORPUS[docno]), Reflection().sampling)


def metric(url: str, name: str) -> int:
    with urllib.request.urlopen(f"{url}/metrics", timeout=30) as answer:
        values = re.findall(rf"^vllm:{name}\{{.*\}} (\S+)$", answer.read().decode(), re.MULTILINE)
    assert values, f"no metric {name}"
    return int(sum(map(float, values)))


async def until(url: str, name: str, least: int, most: int, seconds: float = 60) -> float:
    """Waits for a metric to come into a range; the seconds that took."""
    began = time.monotonic()
    while not least <= await asyncio.to_thread(metric, url, name) <= most:
        assert time.monotonic() - began < seconds, f"{name} is not between {least} and {most} after {seconds} s"
        await asyncio.sleep(0.05)
    return time.monotonic() - began


# --- calls


def test_a_chat_is_answered_counted_and_kept(url: str, model: Path) -> None:
    async def main() -> None:
        async with client(url) as generator:
            await generator.check()
            answer = await generator.complete(request())
            assert answer.text and answer.finish_reason in ("stop", "length") and not answer.is_cached
            assert 0 < answer.generated_tokens <= 24
            asked = AutoTokenizer.from_pretrained(model).apply_chat_template(
                list(request().prompt.messages), add_generation_prompt=True, return_dict=True
            )
            assert answer.prompt_tokens == len(asked["input_ids"])
            assert (await generator.complete(request())).is_cached and generator.usage.calls == 1

    run(main)


def test_an_answer_ends_before_a_stop_text(url: str) -> None:
    async def main() -> None:
        async with client(url) as generator:
            whole = await generator.complete(request(temperature=0.0))
            stop = whole.text[len(whole.text) // 2 :][:3]
            cut = await generator.complete(request(temperature=0.0, stop=(stop,)))
            assert (cut.text, cut.finish_reason) == (whole.text.partition(stop)[0], "stop")

    run(main)


def test_samples_differ_and_come_again_with_their_seed(url: str) -> None:
    async def drawn(**settings: Any) -> list[str]:
        async with client(url) as generator:  # with a cache of its own
            return [answer.text async for answer in generator.samples(request(**settings), 4)]

    async def main() -> None:
        first = await drawn()
        assert len(set(first)) == 4
        assert await drawn() == first
        assert not set(await drawn(seed=1)) & set(first)

    run(main)


def test_a_choice_is_one_of_the_choices_with_the_models_own_probabilities(
    url: str, model: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tokenizer, network = AutoTokenizer.from_pretrained(model), AutoModelForCausalLM.from_pretrained(model)
    tokens = [tokenizer.decode([number]) for number in range(len(tokenizer))]
    may_begin = [n for n, token in enumerate(tokens) if token and any(c.startswith(token) for c in ("True", "False"))]

    def expected(asked: Request) -> float:
        """The probability of True by transformers, over the first tokens that a choice can begin with."""
        inputs = tokenizer.apply_chat_template(
            list(asked.prompt.messages), add_generation_prompt=True, return_dict=True, return_tensors="pt"
        )
        with torch.no_grad():
            shares = network(**inputs).logits[0, -1, may_begin].softmax(-1).tolist()
        best = sorted(zip(shares, may_begin, strict=True), reverse=True)[: asked.sampling.logprobs]
        return sum(share for share, n in best if tokens[n][0] == "T") / sum(share for share, _ in best)

    async def main() -> None:
        async with client(url) as generator:
            asked = [reflection(docno) for docno in CORPUS]
            answers = await asyncio.gather(*map(generator.complete, asked))
            drawn = [a.text async for a in generator.samples(replace(asked[0], temperature=1.0), 20)]
            await generator.complete(replace(asked[0], logprobs=0))
        assert {*drawn} <= {"True", "False"}
        for question, answer in zip(asked, answers, strict=True):
            probabilities = answer.choice_probabilities
            assert answer.text in ("True", "False") and probabilities is not None
            assert set(probabilities) == {"True", "False"} and math.isclose(sum(probabilities.values()), 1)
            assert probabilities["True"] == pytest.approx(expected(question), abs=1e-4)
            assert Reflection().parse(answer.text, probabilities) == Relevance(
                answer.text == "True", pytest.approx(probabilities["True"])
            )

    with caplog.at_level(logging.WARNING, "synthesis"):
        run(main)
    assert not caplog.records


def test_the_servers_queue_is_read_and_kept_short(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "_LOOK_SECONDS", 0.2)

    async def main() -> None:
        async with client(url, in_flight=200, queue_limit=4) as generator:
            calls = [generator.complete(request(n, seed=seed, max_tokens=64)) for n in range(8) for seed in range(40)]
            working = asyncio.gather(*calls)
            waiting, limits, side = [], [], generator._servers[0]
            while not working.done():
                waiting.append(await asyncio.to_thread(metric, url, "num_requests_waiting"))
                limits.append(side.gate.limit)
                await asyncio.sleep(0.05)
            await working
            print(f"vLLM: at most {max(waiting)} of {len(calls)} requests waited; {max(limits)} under way")
            assert side._metrics_url is not None  # else it was given up, and the limit would be 200
            assert 8 == limits[0] < max(limits) < 100
            assert 0 < max(waiting) < 100
            assert any(later < earlier for earlier, later in pairwise(limits))  # too many waited, and it gave way

    run(main)


def test_cancelled_calls_leave_the_server(url: str) -> None:
    async def main() -> None:
        async with client(url) as generator:
            long = request(max_tokens=3000, temperature=1.0, top_k=0, top_p=1.0)
            calls = [asyncio.create_task(generator.complete(long, sample=sample)) for sample in range(3 * SLOTS)]
            await until(url, "num_requests_running", SLOTS, SLOTS)
            assert metric(url, "num_requests_waiting") > 0
            for call in calls:
                call.cancel()
            await asyncio.gather(*calls, return_exceptions=True)
            assert generator.usage.in_flight == 0
            seconds = await until(url, "num_requests_(?:running|waiting)", 0, 0, seconds=10)
            print(f"vLLM: {sum(call.cancelled() for call in calls)} cancelled calls were gone after {seconds:.2f} s")
            assert (await generator.complete(request())).text  # it goes on as before

    run(main)


def test_a_prompt_that_is_too_long_is_refused_once(url: str) -> None:
    async def main() -> None:
        async with client(url) as generator:
            with pytest.raises(GenerationError, match="status 400.*4096"):
                await generator.complete(Request(Thought().prompt("How many? " * LONGEST, ())))
            assert (generator.usage.retried, generator.usage.failed) == (0, 1)

    run(main)


# --- runs


def synthesized(url: str, folder: Path, name: str = MODEL, **actions: Any) -> RunReport:
    quick = {
        "thought": replace(Thought().sampling, max_tokens=24),
        "completion": replace(Completion().sampling, max_tokens=32),
        "candidates": replace(Candidates().sampling, max_tokens=32),
        "summary": replace(Summary().sampling, max_tokens=24),
    }
    settings = Settings(
        tree=TreeSettings(rollouts=3, max_depth=4),
        generator=GeneratorSettings(urls=(url,), model=name),
        actions=ActionSettings(**quick | actions),
    )
    return synthesize(PROBLEMS, CORPUS, folder, settings=settings, progress=False)


def records(folder: Path) -> list[dict[str, Any]]:
    with Store(folder / STORE_FILE) as store:
        return sorted(map(dict, store), key=lambda record: record["problem_id"])


def test_a_run_on_noise_goes_through_counts_it_and_makes_no_call_again(url: str, tmp_path: Path) -> None:
    report = synthesized(url, tmp_path / "run")
    assert (report.ended, report.finished, report.solved, report.usage.failed) == ("done", 8, 0, 0)
    made = records(tmp_path / "run")
    for record in made:
        counts = record["counts"]
        assert counts["unparsable"]["completion"] and counts["unparsable"]["candidates"] and not counts["failed"]
        # Of no completion several samples can be read, so what is no node is counted as unparsable.
        assert counts["calls"] == len(record["nodes"]) - 1 + sum(counts["unparsable"].values())
        assert all(node["text"] for node in record["nodes"][1:]) and not any(n["value"] for n in record["nodes"])
    print(f"vLLM: {report.usage.calls} calls, {[record['counts']['unparsable'] for record in made]}")

    answered = metric(url, "request_success_total")
    again = synthesized(url, tmp_path / "run")
    assert (again.kept, again.finished, again.usage.calls, again.usage.cached) == (8, 0, 0, 0)
    (tmp_path / "other").mkdir()
    shutil.copy(tmp_path / "run" / CACHE_FILE, tmp_path / "other")
    other = synthesized(url, tmp_path / "other")
    assert (other.finished, other.usage.calls, other.usage.failed) == (8, 0, 0) and other.usage.cached >= 8
    assert [content(record) for record in records(tmp_path / "other")] == [content(record) for record in made]
    assert metric(url, "request_success_total") == answered


def test_theorems_are_found_judged_and_summarised_by_a_model_that_can_say_nothing_else(
    url: str, tmp_path: Path
) -> None:
    """Candidates are constrained to two well-formed ones, so that noise comes as far as theorems."""
    choice = ("Name: Pythagorean theorem\nStatement: legs of a right triangle", "Name: Sum\nStatement: of an integer")
    sampling = replace(Candidates().sampling, choice=choice, max_tokens=100)
    report = synthesized(url, tmp_path, candidates=sampling)
    assert (report.finished, report.solved, report.usage.failed) == (8, 0, 0)
    nodes = [node for record in records(tmp_path) for node in record["nodes"]]
    queries = {node["text"] for node in nodes if node["kind"] == "query"}
    assert queries == {"Pythagorean theorem. legs of a right triangle", "Sum. of an integer"}
    hits = [hit for node in nodes for hit in node["retrieved"] or () if hit["label"] != "on_path"]
    assert {hit["label"] for hit in hits} <= {"relevant", "irrelevant"} and len(hits) > 20
    assert all((hit["probability"] > 0.5) == (hit["label"] == "relevant") for hit in hits)
    found = [node for node in nodes if node["kind"] == "theorem"]
    print(f"vLLM: {len(hits)} theorems judged, {len(found)} of them taken; {report.usage.calls} calls")
    assert all(node["text"] and node["docno"] in CORPUS for node in found)


def test_a_wrong_model_is_said_before_any_work(url: str, tmp_path: Path) -> None:
    with pytest.raises(ServerError, match="doesn't have the model 'Qwen/Qwen2.5-7B'; it has radar"):
        synthesized(url, tmp_path, name="Qwen/Qwen2.5-7B")
    assert not records(tmp_path) and not (tmp_path / "theorems").exists()

    async def main() -> None:
        async with client(url, model="other") as generator:
            with pytest.raises(ServerError, match="doesn't have the model 'other'.*404"):
                await generator.complete(request())
            assert generator.usage.retried == 0

    run(main)


# --- embeddings


def test_theorems_of_a_pooling_server_are_ranked_as_by_the_encoder(retriever: Path, tmp_path: Path) -> None:  # noqa: F811
    corpus = {docno: text[:100] for docno, text in CORPUS.items()}  # the model reads 160 tokens
    queries = ["right triangle, legs, hypotenuse", "sum of the first integers", "étale — 定理"]

    async def found(by: EncoderTheorems | EndpointTheorems) -> list[dict[str, float]]:
        return [dict(hits) for hits in await asyncio.gather(*(by.search(query, len(corpus)) for query in queries))]

    with server(retriever, tmp_path / "vllm.log", "--runner", "pooling", "--max-model-len", "160") as address:
        with pytest.raises(ConnectionError, match="embeds nothing by the model 'other'.*404"):
            EndpointTheorems(corpus, f"{address}/v1", "other", tmp_path / "other")
        theirs = run(lambda: found(EndpointTheorems(corpus, f"{address}/v1", MODEL, tmp_path / "vllm")))
    ours = run(lambda: found(EncoderTheorems(corpus, Encoder(retriever, device="cpu"), tmp_path / "ours")))
    for scores, expected in zip(theirs, ours, strict=True):
        assert scores == pytest.approx(expected, abs=1e-5)
        assert next(iter(scores)) == next(iter(expected))
    spread = max(np.ptp(list(scores.values())) for scores in ours)
    print(f"vLLM: cosines over a range of {spread:.3f}, the same within 1e-5")

"""The client of language models, against the reference solver with faults of every kind."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine
from contextlib import aclosing
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from radar_llm import Generator
from radar_llm import generator as generator_module
from radar_llm.cache import CallCache
from radar_llm.calls import GenerationError, Request, ServerError
from radar_llm.gate import Gate
from radar_llm.prompts import Prompt, Sampling
from radar_llm.server import _StatusError, _unknown_field
from radar_llm.wire import GarbledError, read
from synthesis.actions import Completion, Reflection, Thought
from tests.synthesis.solver import Faults, Load, Mind, Solver, problems, theorems, truth

PROBLEMS = problems(20)
THOUGHT = Thought()


def request(number: int = 0, seed: int = 0, **settings: Any) -> Request:
    return Request(THOUGHT.prompt(PROBLEMS[number]["problem"], ()), Sampling(**settings), seed)


def reflection(docno: str, number: int = 0) -> Request:
    prompt = Reflection().prompt(PROBLEMS[number]["problem"], (), theorems()[docno])
    return Request(prompt, replace(Reflection().sampling, max_tokens=4, temperature=0.0))


def client(*solvers: Solver, **settings: Any) -> Generator:
    settings = {"cache": CallCache(":memory:"), "model": "solver"} | settings
    return Generator([solver.url for solver in solvers], **settings)


def run(main: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
    async def bounded() -> Any:
        async with asyncio.timeout(240):  # on a busy machine
            return await main()

    return asyncio.run(bounded())


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.01)


@pytest.fixture(autouse=True)
def _short_delays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generator_module, "_FIRST_DELAY", 0.01)
    monkeypatch.setattr(generator_module, "_LONGEST_DELAY", 0.05)


def test_a_call_is_answered_counted_and_kept() -> None:
    async def main() -> None:
        async with Solver() as solver, client(solver) as generator:
            await generator.check()
            answer = await generator.complete(request(), route="p")
            assert truth(PROBLEMS[0]["problem"]) is not None and answer.text.startswith("Step 1: ")
            assert not answer.is_cached and answer.finish_reason == "stop"
            again = await generator.complete(request(), route="other")
            assert again.is_cached and again.text == answer.text and again.call == answer.call
            usage = generator.usage
            assert (usage.calls, usage.cached, usage.failed, usage.retried, usage.in_flight) == (1, 1, 0, 0, 0)
            assert usage.prompt_tokens == answer.prompt_tokens > 0 < usage.generated_tokens
            assert usage.busy_seconds > 0
            assert solver.tally.calls.total() == 1

    run(main)


def test_what_is_sent_is_what_was_asked_with_another_seed_for_every_sample() -> None:
    async def main() -> None:
        async with Solver() as solver, client(solver) as generator:
            asked = request(temperature=0.3, top_p=0.9, top_k=7, max_tokens=99, stop=("\nStep",), seed=5)
            async for _ in generator.samples(asked, 3):
                pass
            await generator.complete(request(seed=6))
            first = solver.bodies[0]
            assert (first["temperature"], first["top_p"], first["top_k"], first["max_tokens"]) == (0.3, 0.9, 7, 99)
            assert first["stop"] == ["\nStep"] and first["messages"] == list(asked.prompt.messages)
            assert "structured_outputs" not in first and "logprobs" not in first
            assert len({body["seed"] for body in solver.bodies}) == 4
            await generator.complete(reflection("sum-of-integers"))
            assert solver.bodies[-1]["structured_outputs"] == {"choice": ["True", "False"]}
            assert solver.bodies[-1]["logprobs"] is True and solver.bodies[-1]["top_logprobs"] == 5

    run(main)


def test_a_choice_comes_with_its_probability() -> None:
    async def main() -> None:
        async with Solver() as solver, client(solver) as generator:
            relevant = await generator.complete(reflection("sum-of-integers"))
            other = await generator.complete(reflection("chain-rule"))
            assert (relevant.text, other.text) == ("True", "False")
            for answer in (relevant, other):
                assert answer.choice_probabilities is not None
                assert sum(answer.choice_probabilities.values()) == pytest.approx(1)
            assert relevant.choice_probabilities["True"] > 0.5 > other.choice_probabilities["True"]  # type: ignore[index]

    run(main)


@pytest.mark.parametrize("refuses", [True, False])
def test_an_endpoint_that_lacks_something_is_used_without_it_and_that_is_said_once(
    refuses: bool, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        lacks = frozenset({"structured_outputs", "logprobs", "top_k"})
        async with Solver(lacks=lacks, refuses=refuses) as solver, client(solver) as generator:
            docnos = list(theorems())[:6]
            answers = await asyncio.gather(*(generator.complete(reflection(docno)) for docno in docnos))
            for answer in answers:
                assert answer.choice_probabilities is None
                assert Reflection().parse(answer.text) is not None and answer.text.startswith(("True,", "False,"))
            assert generator.usage.calls == 6 and generator.usage.failed == 0

    with caplog.at_level(logging.WARNING, "synthesis"):
        run(main)
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == len(set(said)) == (3 if refuses else 2)
    assert any("log" in message for message in said) and any("choice" in m or "structured" in m for m in said)


def test_equal_calls_under_way_share_one_request_and_each_may_leave() -> None:
    async def main() -> None:
        async with Solver(load=Load(first_token_seconds=0.3)) as solver, client(solver) as generator:
            calls = [asyncio.create_task(generator.complete(request())) for _ in range(5)]
            await until(lambda: solver.tally.running == 1)
            calls[0].cancel()  # the one that began it
            answers = await asyncio.gather(*calls[1:])
            assert {answer.text for answer in answers} == {answers[0].text}
            assert solver.tally.calls.total() == 1 and solver.tally.cancelled == 0
            assert generator.usage.calls == 1 and not generator._shared

    run(main)


def test_a_call_that_nobody_waits_for_is_cancelled_at_the_server() -> None:
    async def main() -> None:
        async with Solver(load=Load(slots=2, first_token_seconds=30)) as solver, client(solver) as generator:
            calls = [asyncio.create_task(generator.complete(request(number))) for number in range(4)]
            await until(lambda: (solver.tally.running, solver.tally.waiting) == (2, 2))
            for call in calls:
                call.cancel()
            await asyncio.gather(*calls, return_exceptions=True)
            await until(lambda: (solver.tally.running, solver.tally.waiting, solver.tally.cancelled) == (0, 0, 4))
            assert generator.usage.in_flight == 0 and generator._servers[0].gate.busy == 0

    run(main)


@pytest.mark.parametrize("ahead", [1, 4])
def test_samples_come_in_order_and_closing_asks_for_no_more(ahead: int) -> None:
    async def main() -> None:
        asked = Request(Completion().prompt(PROBLEMS[1]["problem"], ()), Sampling(max_tokens=1024))
        async with Solver(load=Load(token_seconds=0.0005)) as solver, client(solver) as generator:
            one_by_one = [await generator.complete(asked, sample=sample) for sample in range(4)]
            assert len({answer.text for answer in one_by_one}) > 1
        async with Solver(load=Load(token_seconds=0.0005)) as solver, client(solver) as generator:
            taken = []
            async with aclosing(generator.samples(asked, 4, ahead=ahead)) as samples:
                async for answer in samples:
                    taken.append(answer.text)
                    if len(taken) == 2:
                        break
            assert taken == [answer.text for answer in one_by_one[:2]]
            await until(lambda: solver.tally.running == 0)
            assert len(solver.bodies) == (2 if ahead == 1 else 4)

    run(main)


@pytest.mark.parametrize(
    "faults",
    [
        Faults(refused=0.4),
        Faults(errors=0.4),
        Faults(disconnects=0.4),
        Faults(truncated=0.4),
        Faults(hangs=0.2, hang_seconds=30),
        Faults(refused=0.1, errors=0.1, disconnects=0.1, truncated=0.1, hangs=0.05, hang_seconds=30),
    ],
    ids=["429", "500", "disconnect", "truncated", "hang", "all"],
)
def test_what_fails_is_asked_again_and_the_answers_are_those_without_faults(faults: Faults) -> None:
    async def answers(solver: Solver, **settings: Any) -> tuple[list[str], Generator]:
        async with client(solver, **settings) as generator:
            calls = (generator.complete(request(number, seed)) for number in range(20) for seed in range(2))
            return [answer.text for answer in await asyncio.gather(*calls)], generator

    async def main() -> None:
        async with Solver() as sound, Solver(faults=faults) as faulty:
            expected, _ = await answers(sound)
            found, generator = await answers(faulty, timeout=2.0 if faults.hangs else 60.0)
            assert found == expected
            assert generator.usage.retried > 3 and generator.usage.failed == 0 and generator.usage.calls == 40

    run(main)


def test_retry_after_is_honoured() -> None:
    async def main() -> None:
        faults = Faults(refused=1.0, retry_after=0.5)
        async with Solver(faults=faults) as solver, client(solver) as generator:
            call = asyncio.create_task(generator.complete(request()))
            await until(lambda: solver.tally.statuses[429] == 1)
            refused, solver.faults = time.monotonic(), Faults()
            await call
            assert time.monotonic() - refused > 0.45
            assert generator.usage.retried == 1

    run(main)


@pytest.mark.parametrize(
    ("faults", "met"),
    [
        (Faults(errors=1.0), "status 500"),
        (Faults(refused=1.0), "status 429"),
        (Faults(hangs=1.0, hang_seconds=30), "no answer within 0.3 s"),
        (Faults(truncated=1.0), "no JSON"),
    ],
    ids=["500", "429", "hang", "truncated"],
)
def test_where_nothing_is_answered_retries_end_the_run_and_the_error_says_what_the_last_attempt_met(
    faults: Faults, met: str
) -> None:
    async def main() -> None:
        async with Solver(faults=faults) as solver, client(solver, retries=2, timeout=0.3) as generator:
            said = rf"no call is answered: 3 attempts failed, the last one on {solver.url}: .*{met}.*generator.retries"
            with pytest.raises(ServerError, match=said):
                await generator.complete(request())
            assert (generator.usage.failed, generator.usage.retried) == (1, 2)
            assert len(generator._cache) == 0

    run(main)


def test_a_poisoned_prompt_among_good_ones_fails_alone_and_by_itself_is_a_failing_server() -> None:
    async def main() -> None:
        poison = Request(Prompt(({"role": "user", "content": "hello"},), "none", "v"))  # the solver answers 500
        async with Solver(load=Load(first_token_seconds=0.1)) as solver, client(solver) as generator:
            calls = [generator.complete(asked) for asked in (poison, request(0), request(1))]
            failed, *answered = await asyncio.gather(*calls, return_exceptions=True)
            assert isinstance(failed, GenerationError) and "11 attempts failed" in str(failed)
            assert not any(isinstance(answer, BaseException) for answer in answered)
            with pytest.raises(ServerError, match="no call is answered"):
                await generator.complete(poison)

    run(main)


def test_on_a_full_disk_answers_are_held_and_kept_and_nothing_more_is_asked(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("radar_llm.disk._SECONDS", 0.05)

    async def main() -> None:
        cache = CallCache(tmp_path / "calls.sqlite")
        pages = cache._database.execute("PRAGMA page_count").fetchone()[0]
        cache._database.execute(f"PRAGMA max_page_count = {pages}")
        async with Solver() as solver, client(solver, cache=cache, in_flight=8) as generator:
            first = [asyncio.create_task(generator.complete(request(number))) for number in range(8)]
            await until(lambda: generator.usage.held == 8)
            more = [asyncio.create_task(generator.complete(request(number))) for number in range(8, 12)]
            await asyncio.sleep(0.3)
            assert solver.tally.calls.total() == 8 and not any(call.done() for call in first + more)
            first.pop().cancel()
            cache._database.execute("PRAGMA max_page_count = 1000000")
            await asyncio.gather(*first, *more)
            assert solver.tally.calls.total() == 12 and len(cache) == 11 and generator.usage.held == 0

    run(main)


def test_a_refused_prompt_is_asked_once() -> None:
    async def main() -> None:
        async with Solver(longest_prompt=10) as solver, client(solver) as generator:
            with pytest.raises(GenerationError, match="status 400.*maximum context length"):
                await generator.complete(request())
            assert solver.tally.statuses[400] == 1 and generator.usage.retried == 0

    run(main)


def test_a_wrong_model_a_refused_key_and_a_missing_server_are_said_before_any_work() -> None:
    async def main() -> None:
        async with Solver(api_key="sk-secret") as solver:
            async with client(solver, api_key="sk-secret") as generator:
                await generator.check()
                await generator.complete(request())
            async with client(solver, api_key="sk-secret", model="Qwen") as generator:
                with pytest.raises(ServerError, match="doesn't have the model 'Qwen'; it has solver"):
                    await generator.check()
                with pytest.raises(ServerError, match="404"):
                    await generator.complete(request())
            async with client(solver, api_key="sk-wrong") as generator:
                for call in (generator.check(), generator.complete(request())):
                    with pytest.raises(ServerError, match="refuses the key") as refused:
                        await call
                    assert "sk-wrong" not in str(refused.value)
        async with client(solver) as generator:
            with pytest.raises(ServerError, match=f"no server answers.*{solver.port}"):
                await generator.check()

    run(main)


def test_the_key_is_in_no_file(tmp_path: Any) -> None:
    async def main() -> None:
        cache = CallCache(tmp_path / "calls.sqlite")
        async with Solver(api_key="sk-secret") as solver, client(solver, api_key="sk-secret", cache=cache) as generator:
            await generator.complete(request())

    run(main)
    assert all(b"sk-secret" not in path.read_bytes() for path in tmp_path.iterdir())


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ("200 OK\r\nContent-Length: 6\r\n\r\n<html>", "the answer is no JSON"),
        ("204 No Content\r\n\r\n", "the answer is no JSON"),
        ("200 OK\r\nContent-Length: 99\r\n\r\n{", "the connection failed"),
        ("200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\nzzzz", "the connection failed"),
        ("two hundred\r\n\r\n", "the connection failed"),
        ("502 Bad Gateway\r\nContent-Length: 0\r\n\r\n", "status 502: Bad Gateway"),
        ("500 Oh\r\nContent-Length: 17\r\n\r\n<p>sorry\r\n  :-(\r\n", r"status 500: <p>sorry :-\("),
        ("422 No\r\nContent-Length: 24\r\n\r\n'top_k' is not supported", "refuses the request.*422.*top_k"),
    ],
)
def test_an_answer_outside_the_protocol_is_a_failed_attempt_that_says_what_came(
    answer: str, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.readline():  # the next request, or none on this connection
            headers = await reader.readuntil(b"\r\n\r\n")
            await reader.readexactly(int(headers.lower().partition(b"content-length: ")[2].partition(b"\r")[0] or 0))
            writer.write(b"HTTP/1.1 " + answer.encode())
            if "-Length: 99" in answer:
                break
        writer.close()

    async def main() -> None:
        async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
            url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            async with Generator([url], "solver", cache=CallCache(":memory:"), retries=0) as generator:
                with pytest.raises((GenerationError, ServerError), match=said):
                    await generator.complete(request())

    run(main)
    assert ("doesn't know 'top_k'" in caplog.text) == ("top_k" in answer)
    assert ("'top_k' is not supported" in caplog.text) == ("top_k" in answer)


@pytest.mark.parametrize(
    ("said", "field"),
    [
        ("Unrecognized request argument supplied: top_k", "top_k"),
        ("Unknown parameter: 'seed'.", "seed"),
        ("This model does not support top_logprobs", "logprobs"),
        ("property 'top_k' is unsupported, did you mean 'top_p'?", "top_k"),
        ("unknown field `top_k`, expected one of `logprobs`, `seed`", "top_k"),
        ("Additional properties are not allowed ('structured_outputs' was unexpected)", "structured_outputs"),
        ('[{"type":"extra_forbidden","loc":["body","seed"],"msg":"Extra inputs are not permitted"}]', "seed"),
        ("{'top_k': ['Unknown field.']}", "top_k"),
        ("top_k must be -1 or at least 1, got 0", None),
        ("The seed is too large", None),
        ('Field required: messages, input: {"structured_outputs": {"choice": ["True"]}, "seed": 3}', None),
        ('Extra inputs are not permitted: chat_template; input: {"seed": 3, "top_k": 40}', None),
    ],
)
def test_only_what_a_server_says_it_does_not_know_is_left_out(said: str, field: str | None) -> None:
    sent = dict.fromkeys(("model", "structured_outputs", "logprobs", "top_k", "seed"))
    assert _unknown_field(_StatusError(400, said, 0.0), sent) == field
    assert _unknown_field(_StatusError(500, said, 0.0), sent) is None


def test_the_proxy_that_the_environment_names_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        async with Solver() as solver:
            monkeypatch.setenv("http_proxy", f"127.0.0.1:{solver.port}")
            settings: dict[str, Any] = {"cache": CallCache(":memory:"), "retries": 0}
            async with Generator(["http://models.invalid/v1"], "solver", **settings) as generator:
                assert (await generator.complete(request())).text.startswith("Step 1")
            monkeypatch.setenv("no_proxy", "models.invalid")
            async with Generator(["http://models.invalid:80/v1"], "solver", **settings) as generator:
                with pytest.raises(ServerError, match="Cannot connect to host models.invalid"):
                    await generator.complete(request(1))

    run(main)


def test_a_server_that_stays_away_ends_the_run_and_not_one_call_only() -> None:
    async def main() -> None:
        async with Solver() as solver:
            pass
        async with client(solver, retries=2) as generator:
            with pytest.raises(ServerError, match="no server answers: 3 attempts failed"):
                await generator.complete(request())

    run(main)


def test_a_server_that_comes_back_is_used_again() -> None:
    async def main() -> None:
        async with Solver() as first:
            port = first.port
        async with client(first, retries=30) as generator:
            call = asyncio.create_task(generator.complete(request()))
            await asyncio.sleep(0.2)
            async with Solver(port=port):
                assert (await call).text.startswith("Step 1")
            assert generator.usage.retried >= 1

    run(main)


def test_a_problem_stays_on_its_server_and_goes_elsewhere_when_that_dies() -> None:
    async def main() -> None:
        async with Solver() as first, Solver() as second:
            async with Solver() as third:
                generator = client(first, second, third)
                solvers = (first, second, third)
                homes = {}
                for route in range(60):  # ports differ by run: one in 10^10 misses a server
                    before = [solver.tally.calls.total() for solver in solvers]
                    for seed in range(3 * route, 3 * route + 3):
                        await generator.complete(request(seed=seed), route=str(route))
                    made = [s.tally.calls.total() - b for s, b in zip(solvers, before, strict=True)]
                    assert sorted(made) == [0, 0, 3]
                    homes[route] = made.index(3)
                assert set(homes.values()) == {0, 1, 2}
            for route, home in homes.items():
                before = [solver.tally.calls.total() for solver in solvers[:2]]
                await generator.complete(request(seed=1000 + route), route=str(route))
                made = [s.tally.calls.total() - b for s, b in zip(solvers[:2], before, strict=True)]
                assert made[home] == 1 if home < 2 else sum(made) == 1
            assert generator.usage.failed == 0
            await generator.check()  # one of three is away: that is a warning
            await generator.close()

    run(main)


def test_in_flight_is_a_bound_and_the_servers_queue_another() -> None:
    async def main() -> None:
        load = Load(slots=8, first_token_seconds=0.1)
        async with Solver(load=load) as solver, client(solver, in_flight=5) as generator:
            await asyncio.gather(*(generator.complete(request(number)) for number in range(20)))
            assert solver.tally.most_running == 5 and solver.tally.most_waiting <= 1
        async with Solver(load=load) as solver, client(solver, in_flight=100, queue_limit=4) as generator:
            await asyncio.gather(*(generator.complete(request(n, s)) for n in range(20) for s in range(5)))
            assert solver.tally.most_waiting <= 40 and solver.tally.most_running == 8
        async with Solver(load=load, has_metrics=False) as solver, client(solver, in_flight=50) as generator:
            await asyncio.gather(*(generator.complete(request(n, s)) for n in range(20) for s in range(2)))
            assert solver.tally.most_waiting >= 30 and generator._servers[0]._metrics_url is None

    run(main)


def test_a_gate_lets_in_as_many_as_it_may_in_order_whoever_leaves() -> None:
    async def main() -> None:
        gate, inside, order, most = Gate(2), 0, [], []

        async def enter(number: int) -> None:
            nonlocal inside
            async with gate:
                inside += 1
                most.append(inside)
                order.append(number)
                try:
                    await asyncio.sleep(0.01)
                finally:
                    inside -= 1

        tasks = [asyncio.create_task(enter(number)) for number in range(12)]
        await asyncio.sleep(0)
        for number in (0, 5, 9):
            tasks[number].cancel()
        await asyncio.sleep(0.015)
        tasks[3].cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert order == sorted(order) and gate.busy == 0 and max(most) == 2
        assert not {5, 9} & set(order)
        gate.set_limit(1)
        async with gate:
            blocked = asyncio.create_task(enter(20))
            await asyncio.sleep(0.01)
            assert order[-1] != 20
            gate.set_limit(2)
            await blocked
            assert order[-1] == 20

    run(main)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["choices", "message", "content", "usage"]), inner),
    max_leaves=8,
)


@given(json_values)
def test_any_json_is_an_answer_or_garbled(payload: Any) -> None:
    try:
        read(payload, ("True", "False"))
    except GarbledError:
        pass


def test_a_first_token_counts_for_the_choice_that_it_alone_begins() -> None:
    def probabilities(*tokens: tuple[str, float]) -> Any:
        top = [{"token": token, "logprob": logprob} for token, logprob in tokens]
        first = {"message": {"content": "True"}, "logprobs": {"content": [{"top_logprobs": top}]}}
        return read({"choices": [first]}, ("True", "False")).choice_probabilities

    assert probabilities(("True", 0.0)) == {"True": 1.0, "False": 0.0}
    assert probabilities((" T", -1.0), ("F", -1.0), ("The", -0.1)) == {"True": 0.5, "False": 0.5}
    assert probabilities(("The", -0.1), (" ", -0.1)) is None


@pytest.mark.parametrize(
    "settings", [{"in_flight": 0}, {"retries": -1}, {"timeout": 0.0}, {"queue_limit": 0}, {"urls": ["localhost:80"]}]
)
def test_settings_out_of_range_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="is .*:"):
        Generator(**({"urls": ["http://localhost:1"], "model": "m", "cache": CallCache(":memory:")} | settings))


def test_broken_answers_are_answers() -> None:
    async def main() -> None:
        async with Solver(Mind(broken=1.0)) as solver, client(solver) as generator:
            answers = [await generator.complete(request(number, seed)) for number in range(5) for seed in range(4)]
            assert "" in {answer.text for answer in answers} and generator.usage.retried == 0

    run(main)


def test_a_prompt_of_another_kind_is_no_concern_of_the_client() -> None:
    async def main() -> None:
        prompt = Prompt(({"role": "user", "content": "hello"},), "none", "v")
        async with Solver() as solver, client(solver, retries=0) as generator:
            with pytest.raises(ServerError, match="status 500"):
                await generator.complete(Request(prompt))

    run(main)

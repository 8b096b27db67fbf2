"""A language model inside a synchronous transformer: where it runs, what interrupts it, what is kept."""

import asyncio
import math
import multiprocessing
import os
import signal
import sys
import threading
import time
from contextlib import closing

import pytest

from pyterrier_radar import RatingReranker
from pyterrier_radar._llm import LanguageModel
from radar_llm import CallCache, ServerError
from tests.pyterrier_radar.llm import candidates, is_needed, short_delays  # noqa: F401
from tests.synthesis import solver
from tests.synthesis.parts import served

SLOW = solver.Load(slots=8, first_token_seconds=0.05)


def kept(path):
    """The number of answers in a cache."""
    with closing(CallCache(path)) as cache:
        return len(cache)


def test_it_works_where_an_event_loop_is_running():
    async def notebook(rating):
        return rating(candidates())

    with served() as server:
        out = asyncio.run(notebook(RatingReranker("solver", url=server.url)))
    assert list(out["rating"] == 5) == is_needed(out)


def test_several_servers_share_the_work_and_the_documents_of_a_query_go_to_one():
    with served(load=SLOW) as one, served(load=SLOW) as other:
        RatingReranker("solver", url=[one.url, other.url])(candidates(queries=10, documents=5))
        first, second = (
            {solver.mind.read(body["messages"], 0).problem for body in server.bodies} for server in (one, other)
        )
        assert one.tally.calls.total() + other.tally.calls.total() == 50
    assert first and second and not first & second


def test_no_more_is_under_way_than_allowed():
    with served(load=solver.Load(slots=50, first_token_seconds=0.02)) as server:
        RatingReranker("solver", url=server.url, in_flight=3)(candidates())
        assert server.tally.most_running == 3


def test_an_interrupt_cancels_what_is_under_way_and_keeps_what_was_answered(tmp_path, interruptible):
    assert threading.current_thread() is threading.main_thread()
    with served(load=solver.Load(slots=4, first_token_seconds=0.1)) as server:
        rating = RatingReranker("solver", url=server.url, cache=tmp_path / "calls.sqlite", verbose=True)

        def interrupt():
            while kept(tmp_path / "calls.sqlite") < 8:  # not the server's count: its answers may be on their way
                time.sleep(0.01)
            os.kill(os.getpid(), signal.SIGINT)

        threading.Thread(target=interrupt).start()
        began = time.monotonic()
        with pytest.raises(KeyboardInterrupt):
            rating(candidates(queries=10, documents=80))
        assert time.monotonic() - began < 10  # all of it would take 20
        while server.tally.running or server.tally.waiting:
            time.sleep(0.01)
        assert server.tally.cancelled > 0
        assert not [thread for thread in threading.enumerate() if thread.name.startswith("radar-llm")]
        assert kept(tmp_path / "calls.sqlite") == rating.usage.calls >= 8


def test_a_second_run_asks_nothing_and_needs_no_server(tmp_path):
    frame, settings = candidates(), {"cache": tmp_path / "calls.sqlite"}
    with served() as server:
        first = RatingReranker("solver", url=server.url, **settings)(frame)
        assert server.tally.calls.total() == kept(tmp_path / "calls.sqlite") == len(frame)
    again = RatingReranker("solver", url=server.url, **settings)
    assert again(frame).equals(first)
    assert (again.usage.calls, again.usage.cached, again.usage.prompt_tokens) == (0, len(frame), 0)


def test_without_a_file_answers_live_as_long_as_the_transformer():
    with served() as server:
        rating = RatingReranker("solver", url=server.url)
        assert rating(candidates()).equals(rating(candidates()))
        assert (rating.usage.calls, rating.usage.cached) == (40, 40)
        RatingReranker("solver", url=server.url)(candidates())
        assert server.tally.calls.total() == 80


def test_a_cache_can_be_shared():
    cache = CallCache(":memory:")
    with served() as server:
        for _ in range(2):
            RatingReranker("solver", url=server.url, cache=cache)(candidates())
        assert server.tally.calls.total() == len(cache) == 40


def test_a_server_that_dies_ends_the_run_and_the_error_says_what_is_kept(tmp_path, short_delays):  # noqa: F811
    path, frame = tmp_path / "calls.sqlite", candidates(queries=5, documents=40)
    with served(load=SLOW) as server:

        def die():
            while server.tally.calls.total() < 20:
                time.sleep(0.01)
            server.faults = solver.Faults(down=(0.0, math.inf))

        threading.Thread(target=die).start()
        rating = RatingReranker("solver", url=server.url, cache=path, retries=2)
        with pytest.raises(ServerError, match="no server answers") as failed:
            rating(frame)
        answered = kept(path)
        assert failed.value.__notes__[0].startswith(f"{answered} of 200 were answered; they are kept in {path}")
        assert 20 <= answered < 200
        server.faults = solver.Faults()
        assert len(rating(frame)) == 200
        assert rating.usage.calls == 200


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"api_key": "sk-wrong"}, "refuses the key"),
        ({"api_key": "sk-right", "model": "other"}, "doesn't have the model 'other'; it has solver"),
        ({"url": "http://127.0.0.1:9/v1"}, "no server answers"),
    ],
)
def test_a_wrong_key_model_or_url_is_said_before_any_work(settings, message):
    with served(api_key="sk-right") as server:
        settings = {"model": "solver", "url": server.url} | settings
        with pytest.raises(ServerError, match=message) as refused:
            RatingReranker(settings.pop("model"), **settings)(candidates())
        assert "sk-wrong" not in str(refused.value) and server.tally.calls.total() == 0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"url": "localhost:8000"}, "no base URL"),
        ({"url": []}, "at least one base URL"),
        ({"in_flight": 0}, "in_flight is 0"),
        ({"timeout": 0}, "timeout is 0"),
        ({"retries": -1}, "retries is -1"),
        ({"model": " "}, "name the model"),
    ],
)
def test_settings_that_make_no_sense_are_refused_at_once(settings, message):
    with pytest.raises(ValueError, match=message):
        LanguageModel(**({"model": "solver"} | settings))


def rate(url, cache, queries, documents):
    RatingReranker("solver", url=url, cache=cache, in_flight=24)(candidates(queries, documents))


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL")
def test_a_run_killed_again_and_again_never_asks_for_what_it_has(tmp_path):
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload([__name__, "pyterrier_radar._rating"])
    path, pairs, known = tmp_path / "calls.sqlite", 20 * 80, 0
    with served(load=solver.Load(slots=16, first_token_seconds=0.01)) as server:
        for kills in range(6):
            asked = server.tally.calls.total()
            process = processes.Process(target=rate, args=(server.url, path, 20, 80))
            process.start()
            while kills < 5 and server.tally.calls.total() < asked + 60 + 40 * kills and process.is_alive():
                time.sleep(0.002)
            if kills < 5:
                process.kill()
            process.join(120)
            assert process.exitcode == (-signal.SIGKILL if kills < 5 else 0)
            while server.tally.running:
                time.sleep(0.002)
            answered, new = server.tally.calls.total() - asked, kept(path) - known
            known += new
            # What the server had answered when its client was killed, and could not hand over.
            assert 0 <= answered - new <= (24 if kills < 5 else 0)
        assert known == pairs

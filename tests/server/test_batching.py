"""The batching queue: places, what is batched and searched together, cancelling, failures and closing."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import pytest

pytest.importorskip("fastapi", reason="needs the extra serve")
from captionlens.errors import OptionError, UnreadableImage
from captionlens.runtime.caption import Caption
from captionlens.runtime.decoding import DecodingOptions
from captionlens.runtime.photograph import Photograph
from captionlens.runtime.request import CaptionRequest
from captionlens.server import problems
from captionlens.server.batching import EXAMINING, Batcher, places_of
from captionlens.server.metrics import Metrics
from captionlens.server.problems import Problem
from helpers.bright_network import BLACK, WHITE, BrightNetwork, captioner_of, grey

PLAIN = CaptionRequest(DecodingOptions(beam=2))
GREEDY = CaptionRequest(DecodingOptions(beam=1))
RANDOM = CaptionRequest(DecodingOptions(temperature=1.0, seed=4))
EXAMINED = replace(PLAIN, faithfulness=True)

ALONE = 2  # a photograph alone is searched as two, see `Captioner.caption_features`


@contextmanager
def batching(network: BrightNetwork, *, batch_size: int = 8, queue: int = 64) -> Iterator[Batcher]:
    """A batcher, which is closed in the end."""
    batcher = Batcher(captioner_of(network), batch_size=batch_size, queue=queue, metrics=Metrics())
    try:
        yield batcher
    finally:
        network.gate.set()
        batcher.close()


@contextmanager
def held_up(network: BrightNetwork) -> Iterator[None]:
    """The network computes nothing for as long as the block lasts."""
    network.entered.clear()
    network.gate.clear()
    try:
        yield
    finally:
        network.gate.set()


def start(batcher: Batcher, content: bytes, request: CaptionRequest = PLAIN) -> "asyncio.Task[Caption]":
    return asyncio.create_task(batcher.caption(Photograph(content), request))


async def waiting(batcher: Batcher, count: int) -> None:
    """Returns once so many photographs are decoded and wait."""
    while len(batcher._waiting) + len(batcher._patient) != count:
        await asyncio.sleep(0.001)


async def one_in_work(batcher: Batcher, network: BrightNetwork) -> "asyncio.Task[Caption]":
    """A photograph that has reached a network which is held up."""
    task = start(batcher, WHITE)
    await asyncio.to_thread(network.entered.wait)
    return task


def value(batcher: Batcher, name: str) -> float | None:
    return batcher.metrics.registry.get_sample_value(f"captionlens_{name}")


# Batches.


def test_captions_are_those_of_the_captioner() -> None:
    network = BrightNetwork()
    contents = [WHITE, BLACK, grey(200), grey(60)]
    wanted = [captioner_of(BrightNetwork()).caption(content).to_dict(attention=True) for content in contents]

    async def scenario(batcher: Batcher) -> list[Caption]:
        return await asyncio.gather(*(start(batcher, content) for content in contents))

    with batching(network) as batcher:
        found = asyncio.run(scenario(batcher))
    assert [caption.text for caption in found] == ["bright", "dark", "bright", "dark"]
    assert [caption.to_dict(attention=True) for caption in found] == wanted
    assert value(batcher, "captions_total") == 4


def test_what_waits_is_the_next_batch() -> None:
    network = BrightNetwork()

    async def scenario(batcher: Batcher) -> list[Caption]:
        with held_up(network):
            tasks = [await one_in_work(batcher, network)]
            for number, content in enumerate([BLACK, WHITE, BLACK, WHITE, BLACK], 1):
                tasks.append(start(batcher, content))
                await waiting(batcher, number)
        return await asyncio.gather(*tasks)

    with batching(network, batch_size=3) as batcher:
        found = asyncio.run(scenario(batcher))
    assert network.encoded == [1, 3, 2]
    assert [caption.text for caption in found] == ["bright", "dark", "bright", "dark", "bright", "dark"]
    assert value(batcher, "batch_photographs_count") == 3
    assert value(batcher, "batch_photographs_sum") == 6


def test_requests_with_equal_options_are_searched_together() -> None:
    network = BrightNetwork()
    prefixed = replace(PLAIN, prefix="dark")

    async def scenario(batcher: Batcher) -> list[Caption]:
        requests = [PLAIN, GREEDY, PLAIN, RANDOM, prefixed, RANDOM, replace(PLAIN), GREEDY]
        with held_up(network):
            tasks = [await one_in_work(batcher, network)]
            for number, request in enumerate(requests, 1):
                tasks.append(start(batcher, grey(150), request))
                await waiting(batcher, number)
        return await asyncio.gather(*tasks)

    with batching(network) as batcher:
        found = asyncio.run(scenario(batcher))
    assert network.encoded == [1, 8]
    # The one in work; then equal options together, in the order of the first of each, and random ones alone.
    assert network.searched == [ALONE, 3, 2, ALONE, ALONE, ALONE]
    alone = captioner_of(BrightNetwork()).caption(grey(150), RANDOM)
    assert found[4].to_dict() == found[6].to_dict() == alone.to_dict()
    assert found[5].text == "dark"


def test_captions_to_examine_let_others_go_first() -> None:
    network = BrightNetwork()
    finished: list[str] = []

    async def scenario(batcher: Batcher) -> Caption:
        with held_up(network):
            tasks = [await one_in_work(batcher, network)]
            for number, (name, request) in enumerate([("examined", EXAMINED), ("a", PLAIN), ("b", PLAIN)], 1):
                tasks.append(start(batcher, WHITE, request))
                tasks[-1].add_done_callback(partial(lambda name, _: finished.append(name), name))
                await waiting(batcher, number)
        return (await asyncio.gather(*tasks))[1]

    with batching(network) as batcher:
        examined = asyncio.run(scenario(batcher))
    assert finished == ["a", "b", "examined"]
    assert network.encoded[:3] == [1, 2, 1]
    assert examined.words[0].faithfulness is not None


# Cancelling.


def test_a_cancelled_photograph_is_not_captioned() -> None:
    network = BrightNetwork()

    async def scenario(batcher: Batcher) -> None:
        with held_up(network):
            kept = [await one_in_work(batcher, network), start(batcher, BLACK)]
            await waiting(batcher, 1)
            dropped = [start(batcher, WHITE), start(batcher, WHITE, EXAMINED)]
            await waiting(batcher, 3)
            for task in dropped:
                task.cancel()
            ended = await asyncio.gather(*dropped, return_exceptions=True)
            assert [type(error) for error in ended] == [asyncio.CancelledError] * 2
        assert [caption.text for caption in await asyncio.gather(*kept)] == ["bright", "dark"]

    with batching(network) as batcher:
        asyncio.run(scenario(batcher))
    assert network.encoded == [1, 1]
    assert value(batcher, "cancelled_total") == 2
    assert value(batcher, "captions_total") == 2


def test_a_photograph_cancelled_in_work_is_not_searched() -> None:
    network = BrightNetwork()

    async def scenario(batcher: Batcher) -> None:
        with held_up(network):
            task = await one_in_work(batcher, network)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        assert (await start(batcher, BLACK)).text == "dark"

    with batching(network) as batcher:
        asyncio.run(scenario(batcher))
    assert network.encoded == [1, 1] and network.searched == [ALONE]


def test_a_loop_that_has_ended_harms_no_other() -> None:
    network = BrightNetwork()

    async def leaves(batcher: Batcher) -> None:
        await one_in_work(batcher, network)

    async def comes_later(batcher: Batcher) -> Caption:
        return await start(batcher, BLACK)

    with batching(network) as batcher:
        with held_up(network):
            asyncio.run(leaves(batcher))
        assert asyncio.run(comes_later(batcher)).text == "dark"


# Failures.


def test_a_batch_that_fails_ends_nothing_else() -> None:
    network = BrightNetwork()
    network.failure = RuntimeError("no memory")

    async def scenario(batcher: Batcher) -> None:
        with pytest.raises(RuntimeError, match="no memory"):
            await start(batcher, WHITE)
        network.failure = None
        assert batcher.ready
        assert (await start(batcher, WHITE)).text == "bright"

    with batching(network) as batcher:
        asyncio.run(scenario(batcher))


def test_options_that_the_model_refuses_fail_alone() -> None:
    network = BrightNetwork()
    too_long = CaptionRequest(DecodingOptions(max_words=1), prefix="bright dark")

    async def scenario(batcher: Batcher) -> list[Any]:
        with held_up(network):
            tasks = [await one_in_work(batcher, network)]
            for number, request in enumerate([PLAIN, too_long, GREEDY], 1):
                tasks.append(start(batcher, BLACK, request))
                await waiting(batcher, number)
        return await asyncio.gather(*tasks, return_exceptions=True)

    with batching(network) as batcher:
        _, first, refused, last = asyncio.run(scenario(batcher))
    assert network.encoded == [1, 3]
    assert first.text == last.text == "dark"
    assert isinstance(refused, OptionError) and "max_words" in str(refused)


def test_a_photograph_that_cannot_be_read_never_waits() -> None:
    async def scenario(batcher: Batcher) -> None:
        with pytest.raises(UnreadableImage):
            await start(batcher, b"no photograph")

    network = BrightNetwork()
    with batching(network) as batcher:
        asyncio.run(scenario(batcher))
    assert network.encoded == []


# Places.


def refusal(batcher: Batcher, places: int = 1) -> Problem | None:
    try:
        batcher.check_room(places)
    except Problem as problem:
        return problem
    return None


def test_a_photograph_takes_a_place_and_one_to_examine_many() -> None:
    assert places_of(PLAIN) == 1
    assert places_of(EXAMINED) == EXAMINING


def test_places_are_taken_for_as_long_as_the_block_lasts() -> None:
    with batching(BrightNetwork(), queue=4) as batcher:
        assert value(batcher, "queue_limit") == 4
        with batcher.room(3):
            assert value(batcher, "queue_places") == 3
            assert refusal(batcher, 1) is None
            full = refusal(batcher, 2)
            assert full is not None and full.kind is problems.FULL and full.detail == "3 of 4 places are taken"
            with pytest.raises(Problem), batcher.room(2):
                pass
            with pytest.raises(ValueError, match="inside"), batcher.room(1):
                assert refusal(batcher) is not None
                raise ValueError("inside")
            assert refusal(batcher) is None
        assert value(batcher, "queue_places") == 0


def test_more_places_than_there_are_need_an_empty_queue() -> None:
    with batching(BrightNetwork(), queue=4) as batcher:
        with batcher.room(EXAMINING):
            assert value(batcher, "queue_places") == 4
            assert refusal(batcher) is not None
        with batcher.room(1):
            assert refusal(batcher, EXAMINING) is not None
        assert refusal(batcher, EXAMINING) is None


@pytest.mark.parametrize(("places", "seconds"), [(1, 1), (20, 1), (21, 2), (64, 4), (1200, 60), (5000, 60)])
def test_a_full_queue_estimates_when_there_is_room(places: int, seconds: int) -> None:
    """Before anything has been measured, 0.05 seconds a place; from 1 to 60 seconds."""
    with batching(BrightNetwork(), queue=places) as batcher, batcher.room(places):
        full = refusal(batcher)
        assert full is not None and full.retry_after == seconds


# Closing.


def test_closing_captions_what_waits_and_takes_nothing_new() -> None:
    network = BrightNetwork()

    async def scenario(batcher: Batcher) -> None:
        with held_up(network):
            tasks = [await one_in_work(batcher, network), start(batcher, BLACK), start(batcher, WHITE, EXAMINED)]
            await waiting(batcher, 2)
            closing = asyncio.create_task(asyncio.to_thread(batcher.close))
            while batcher.ready:
                await asyncio.sleep(0.001)
            stopping = refusal(batcher)
            assert stopping is not None and stopping.kind is problems.STOPPING and stopping.retry_after
            assert value(batcher, "ready") == 0
        assert [caption.text for caption in await asyncio.gather(*tasks)] == ["bright", "dark", "bright"]
        await closing

    batcher = Batcher(captioner_of(network), batch_size=8, queue=64, metrics=Metrics())
    assert value(batcher, "ready") == 1
    asyncio.run(scenario(batcher))
    assert not batcher._thread.is_alive()

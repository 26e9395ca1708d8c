"""Which pictures share a run of the network."""

import asyncio
import threading

import numpy as np
import pytest

pytest.importorskip("prometheus_client")

from ppcls_lite.serving.compute import Batcher, ComputeThread
from ppcls_lite.serving.problems import RequestError


class Network:
    """Answers each picture with its first pixel, and remembers the runs."""

    def __init__(self) -> None:
        self.runs: list[int] = []

    def probabilities(self, images: np.ndarray) -> np.ndarray:
        self.runs.append(len(images))
        if images.max() > 100:
            raise RuntimeError("the engine fails")
        return images[:, 0, 0, :1]


def pictures(*values: float) -> np.ndarray:
    return np.stack([np.full((3, 2, 2), value, np.float32) for value in values])


@pytest.fixture
def network():
    return Network()


def classify(network, requests, cancel=(), delay=0.0):
    """Sends all requests while the thread is held up; what each of them gets."""

    async def all_of_them():
        thread = ComputeThread()
        batcher = Batcher(network, "name", thread, 4, delay)
        held = threading.Event()
        thread.submit(held.wait)
        tasks = [asyncio.create_task(batcher(make)) for make in requests]
        await asyncio.sleep(0)  # all of them are in the queue
        for number in cancel:
            tasks[number].cancel()
        await asyncio.sleep(0)
        held.set()
        results = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 60)
        thread.close()
        return results

    return asyncio.run(all_of_them())


def test_what_waits_shares_a_run_and_everybody_gets_the_own_answer(network):
    sizes = [(1.0,), (2.0, 3.0), (4.0,), (5.0,), (6.0,)]
    results = classify(network, [lambda row=row: pictures(*row) for row in sizes])
    assert network.runs == [4, 2]
    assert [result[:, 0].tolist() for result in results] == [list(row) for row in sizes]


def test_one_request_above_the_limit_is_split_and_a_single_one_does_not_wait(network):
    (result,) = classify(network, [lambda: pictures(*range(6))])
    assert network.runs == [4, 2] and result[:, 0].tolist() == list(range(6))


def test_a_bad_picture_and_one_that_nobody_waits_for_leave_the_others_alone(network):
    def bad() -> np.ndarray:
        raise RequestError("bad_picture", "broken")

    made = []
    requests = [lambda: pictures(1.0), bad, lambda: made.append(1), lambda: pictures(2.0), bad]
    results = classify(network, requests, cancel=[2])
    assert network.runs == [2] and not made
    assert [results[0].item(), results[3].item()] == [1.0, 2.0]
    assert all(isinstance(results[number], RequestError) for number in (1, 4))
    assert isinstance(results[2], asyncio.CancelledError)


def test_an_engine_that_fails_is_told_to_all_of_the_run_and_the_thread_goes_on(network):
    values = [1.0, 101.0, 2.0, 3.0, 4.0]
    results = classify(network, [lambda v=v: pictures(v) for v in values])
    assert network.runs == [4, 1] and results[4].item() == 4.0
    assert all(isinstance(result, RuntimeError) for result in results[:4])


def test_with_a_delay_a_run_waits_for_company_but_not_for_ever(network):
    results = classify(network, [lambda: pictures(1.0), lambda: pictures(2.0)], delay=0.5)
    assert network.runs == [2] and [result.item() for result in results] == [1.0, 2.0]

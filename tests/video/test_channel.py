"""The queue between two threads ends cleanly from either side."""

import threading
import time

import pytest

from rirn.video.channel import Cancelled, Channel


def in_thread(call):
    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    return thread


def test_items_come_in_order_and_the_producer_waits_for_room():
    channel, seen, most = Channel(3), [], 0

    def produce():
        for i in range(50):
            channel.put(i)
        channel.close()

    producer = in_thread(produce)
    for item in channel:
        most = max(most, channel._weight)
        time.sleep(0.001)
        seen.append(item)
    producer.join(5)
    assert seen == list(range(50)) and 1 <= most <= 3


def test_items_without_weight_never_wait():
    channel = Channel(1)
    channel.put("frame")
    for i in range(10):
        channel.put(i, weight=0)
    channel.close()
    assert list(channel) == ["frame", *range(10)]


def test_an_error_follows_the_items():
    channel, seen = Channel(3), []
    channel.put(1)
    channel.close(ValueError("late"))
    with pytest.raises(ValueError, match="late"):
        for item in channel:
            seen.append(item)
    assert seen == [1]


@pytest.mark.parametrize("error", [None, ValueError("gone")], ids=str)
def test_a_waiting_producer_learns_that_the_consumer_has_gone(error):
    channel, caught = Channel(1), []

    def produce():
        try:
            channel.put(1)
            channel.put(2)
        except Exception as reason:
            caught.append(reason)

    producer = in_thread(produce)
    time.sleep(0.05)
    channel.cancel(error)
    producer.join(5)
    assert not producer.is_alive()
    assert caught == [error] if error else isinstance(caught[0], Cancelled)
    with pytest.raises(type(error) if error else Cancelled):
        channel.check()


def test_a_waiting_consumer_ends_when_cancelled_elsewhere():
    channel, seen = Channel(1), []
    consumer = in_thread(lambda: seen.extend(channel))
    time.sleep(0.05)
    channel.cancel()
    consumer.join(5)
    assert not consumer.is_alive() and seen == []

"""A bounded queue between two threads that either end can close."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from typing import Any


class Cancelled(Exception):
    """The consumer is gone; the producer should end quietly."""


class Channel:
    """A first-in, first-out queue of at most ``capacity`` weight; ``put`` waits for room, iteration for items.

    The producer ends with ``close(error)``: the consumer still gets what is queued and then the error, if any.
    The consumer ends with ``cancel(error)``: the queue is dropped and the producer's next ``put`` raises the
    error, or ``Cancelled`` without one.
    """

    def __init__(self, capacity: int):
        self._capacity = capacity
        self._items: deque[tuple[Any, int]] = deque()
        self._weight = 0
        self._closed = False
        self._cancelled = False
        self._error: BaseException | None = None
        self._changed = threading.Condition()

    def put(self, item: Any, weight: int = 1) -> None:
        """Append ``item``; an item of weight 0 never waits."""
        with self._changed:
            while not self._cancelled and weight and self._weight + weight > self._capacity:
                self._changed.wait()
            self._raise_if_cancelled()
            self._items.append((item, weight))
            self._weight += weight
            self._changed.notify_all()

    def put_newest(self, item: Any) -> int:
        """Append ``item``, dropping the oldest instead of waiting for room; return how many were dropped."""
        with self._changed:
            self._raise_if_cancelled()
            dropped = 0
            while self._items and self._weight + 1 > self._capacity:
                self._weight -= self._items.popleft()[1]
                dropped += 1
            self._items.append((item, 1))
            self._weight += 1
            self._changed.notify_all()
            return dropped

    def close(self, error: BaseException | None = None) -> None:
        """Signal that no more items come, and why if something went wrong."""
        with self._changed:
            if not self._closed and not self._cancelled:
                self._closed, self._error = True, error
            self._changed.notify_all()

    def cancel(self, error: BaseException | None = None) -> None:
        """Drop what is queued and notify the producer."""
        with self._changed:
            if not self._cancelled:
                self._cancelled, self._error = True, error
            self._items.clear()
            self._weight = 0
            self._changed.notify_all()

    def check(self) -> None:
        """Raise what the consumer cancelled with, if it did."""
        with self._changed:
            self._raise_if_cancelled()

    def _raise_if_cancelled(self) -> None:
        if self._cancelled:
            raise self._error if self._error is not None else Cancelled

    def __iter__(self) -> Iterator[Any]:
        while True:
            with self._changed:
                while not self._items and not self._closed and not self._cancelled:
                    self._changed.wait()
                if self._items:
                    item, weight = self._items.popleft()
                    self._weight -= weight
                    self._changed.notify_all()
                elif self._error is not None and not self._cancelled:
                    raise self._error
                else:
                    return
            yield item
            # The generator must not keep the item alive while it waits for the next one.
            del item

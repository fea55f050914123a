"""Work in threads beside the caller, results in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def map_ahead(function: Callable[[Item], Result], items: Iterable[Item], workers: int) -> Iterator[Result]:
    """``map`` in threads; at most ``2 * workers`` items are in work or wait for the caller, who also takes the items out of the
    iterator.

    Threads suffice where the work is Pillow's, NumPy's and SciPy's, which let go of Python's lock. Without workers it is ``map``.
    """
    if workers < 1:
        yield from map(function, items)
        return
    waiting: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        try:
            for item in items:
                waiting.append(pool.submit(function, item))
                # What is done is handed on at once; the caller waits only when enough is under way.
                while waiting and (waiting[0].done() or len(waiting) >= 2 * workers):
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()

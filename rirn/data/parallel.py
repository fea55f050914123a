"""Work in threads beside the caller, results in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def map_ahead(function: Callable[[Item], Result], items: Iterable[Item], workers: int) -> Iterator[Result]:
    """``map`` in threads; at most ``2 * workers`` items are in progress or wait for the caller, whose thread also advances the
    iterator.

    Threads suffice for work in Pillow, NumPy and SciPy, which release Python's lock. Without workers it is ``map``.
    """
    if workers < 1:
        yield from map(function, items)
        return
    waiting: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        try:
            for item in items:
                waiting.append(pool.submit(function, item))
                # Finished results are yielded at once; the caller waits only when enough are under way.
                while waiting and (waiting[0].done() or len(waiting) >= 2 * workers):
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()

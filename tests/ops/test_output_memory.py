"""The memory of large results is used again, and never while somebody still reads it."""

import gc
import threading

import pytest
import torch

from rirn.ops import atb_blend, available_backends

pytestmark = pytest.mark.skipif(
    "cpu" not in available_backends("atb_blend"), reason="there is no CPU kernel of atb_blend"
)


def blend(value, height=512):
    """A result of 4 MiB for the default height, full of ``value``."""
    f = torch.full((1, 4, height, 512), float(value))
    return atb_blend(f, f, torch.zeros_like(f), torch.zeros_like(f), backend="cpu")


def test_a_freed_result_makes_room_for_the_next():
    first = blend(1)
    place = first.data_ptr()
    del first
    gc.collect()
    assert blend(2).data_ptr() == place


def test_a_larger_result_gets_memory_of_its_own():
    small = blend(1)
    place = small.data_ptr()
    del small
    large = blend(2, height=1024)
    assert large.data_ptr() != place
    assert (large == 2).all()


def test_results_in_use_are_left_alone():
    kept = [blend(value) for value in range(8)]
    views = [t[:, 1:] for t in kept]
    del kept
    blend(9)
    assert len({v.data_ptr() for v in views}) == len(views)
    assert all((view == value).all() for value, view in enumerate(views))


def test_memory_kept_is_handed_back():
    release = torch.ops.rirn.release_kept_results
    release()
    used = blend(1)
    assert release() == 0
    del used
    gc.collect()
    assert release() == 4 << 20
    assert (blend(2) == 2).all()


def test_threads_do_not_share_results():
    wrong = []

    def work(value):
        for _ in range(20):
            if not (blend(value) == value).all():
                wrong.append(value)

    threads = [threading.Thread(target=work, args=(value,)) for value in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong

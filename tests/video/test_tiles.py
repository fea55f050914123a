"""Tiles: the same as the whole frame but for what lies beyond the overlap, and smaller ones when memory runs out."""

from itertools import pairwise

import pytest
import torch
from torch import nn

import rirn
from rirn.errors import RirnError
from rirn.video import Tiled, deblur
from rirn.video import tiles as tiles_module
from rirn.video.memory import free_bytes, needed_bytes
from rirn.video.tiles import TileStates, boxes, recut
from tests.video.clips import Delayed, Identity, write_clip


@pytest.fixture(autouse=True)
def inference():
    with torch.inference_mode():
        yield


class Blur(nn.Module):
    """Mean over 5x5 pixels of the frame and of half the result before."""

    def step(self, frame, state):
        mixed = frame if state is None else (frame + state) / 2
        padded = nn.functional.pad(mixed, (2, 2, 2, 2), mode="replicate")
        sharp = nn.functional.avg_pool2d(padded, 5, stride=1)
        return sharp, sharp


def run(model, clip):
    state, sharp = None, []
    for frame in clip:
        image, state = model.step(frame, state)
        sharp.append(image)
    return torch.stack(sharp), state


@pytest.mark.parametrize("size", [(64, 64), (63, 200), (129, 65), (17, 13), (240, 320), (719, 80)], ids=str)
@pytest.mark.parametrize(("side", "overlap"), [(64, 32), (64, 16), (96, 0)], ids=str)
def test_tiles_cover_the_frame_and_overlap(size, side, overlap):
    covered = torch.zeros(size, dtype=torch.int)
    for top, bottom, left, right in boxes(size, side, overlap):
        assert 0 < bottom - top <= side and 0 < right - left <= side
        assert top % 16 == 0 and left % 16 == 0
        covered[top:bottom, left:right] += 1
    assert covered.min() >= 1
    rows = sorted({box[:2] for box in boxes(size, side, overlap)})
    assert all(a[1] - b[0] >= overlap for a, b in pairwise(rows))
    weights = Tiled(Identity(), side, overlap).weights(
        TileStates(size, boxes(size, side, overlap), ()), torch.empty(0)
    )
    total = torch.zeros(size)
    for (top, bottom, left, right), weight in zip(boxes(size, side, overlap), weights, strict=True):
        assert weight.min() > 0
        total[top:bottom, left:right] += weight[0, 0]
    assert (total - 1).abs().max() < 1e-6


def test_the_difference_to_the_whole_frame_is_bounded():
    clip = torch.rand(6, 1, 3, 150, 210, generator=torch.Generator().manual_seed(0))
    whole, _ = run(Blur(), clip)
    tiled, state = run(Tiled(Blur(), 96, 32), clip)
    assert len(state.boxes) == 6 and len({s.data_ptr() for s in state.states}) == 6
    # Two pixels from the edge of a tile are wrong after a frame, and weigh next to nothing there.
    assert (whole[0] - tiled[0]).abs().max() < 0.05
    assert (whole - tiled).abs().max() < 0.05 and (whole - tiled).abs().mean() < 5e-4
    hard, _ = run(Tiled(Blur(), 80, 0), clip)
    assert (whole - hard).abs().max() > 3 * (whole - tiled).abs().max()  # the overlap is what does it


@pytest.fixture(scope="module")
def shipped():
    """The shipped network, a clip, and what it makes of whole frames."""
    model = rirn.load("rirn-tiny").eval()
    generator = torch.Generator().manual_seed(0)
    still = nn.functional.interpolate(
        torch.rand(1, 3, 24, 40, generator=generator), (192, 320), mode="bicubic"
    )
    clip = torch.stack([still.roll(2 * i, -1).clamp(0, 1) for i in range(5)])
    return model, clip, run(model, clip)[0]


@pytest.mark.parametrize("tile", [160, 176])
def test_the_shipped_weights_in_tiles(shipped, tile):
    model, clip, whole = shipped
    tiled, _ = run(Tiled(model, tile), clip)
    change = (whole - clip).abs().mean()
    assert (whole - tiled).abs().mean() < 0.1 * change
    assert (whole - tiled).abs().max() < 4 / 255


@pytest.mark.parametrize(("half", "tile", "overlap"), [(False, 192, 32), (True, 192, 64), (True, 80, 32)])
def test_a_network_at_half_resolution_sees_further(half, tile, overlap):
    model = Blur()
    model.half_resolution = half
    _, state = run(Tiled(model, tile), torch.rand(1, 1, 3, 64, tile + 6 * (tile - overlap)))
    assert [left[3] - right[2] for left, right in pairwise(state.boxes)] == [overlap] * 6


def test_one_tile_is_the_model_itself():
    clip = torch.rand(3, 1, 3, 50, 70)
    assert torch.equal(run(Tiled(Blur(), None), clip)[0], run(Blur(), clip)[0])
    assert torch.equal(run(Tiled(Blur(), 128), clip)[0], run(Blur(), clip)[0])


@pytest.mark.parametrize("model", [Identity, Delayed])
def test_no_frame_is_lost_in_tiles(tmp_path, model):
    clip = write_clip(tmp_path / "in.mp4", 9, 200, 130)
    deblur(model(), clip, tmp_path / "whole", tile=None, progress=False)
    assert deblur(model(), clip, tmp_path / "tiled", tile=64, progress=False).frames == 9
    for a, b in zip(
        sorted((tmp_path / "whole").iterdir()), sorted((tmp_path / "tiled").iterdir()), strict=True
    ):
        assert a.name == b.name and a.read_bytes() == b.read_bytes()


def hungry(base, limit, error):
    """Runs out of memory with frames of more than `limit` pixels, from the third step on."""

    class Hungry(base):
        def step(self, frame, state):
            if frame.shape[-1] * frame.shape[-2] > limit and len(self.states) > 2:
                raise error
            return super().step(frame, state)

    return Hungry()


CPU_ERROR = RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes")


@pytest.mark.parametrize("base", [Identity, Delayed])
@pytest.mark.parametrize(
    "error",
    [torch.OutOfMemoryError("CUDA out of memory"), CPU_ERROR, MemoryError()],
    ids=["cuda", "cpu", "python"],
)
@pytest.mark.parametrize(("limit", "tile"), [(64 * 64, 64), (130 * 130, 128)])
def test_when_memory_runs_out_the_same_frame_goes_in_smaller_tiles(
    tmp_path, base, error, limit, tile, caplog
):
    clip = write_clip(tmp_path / "in.mp4", 7, 260, 130)
    summary = deblur(hungry(base, limit, error), clip, tmp_path / "out", progress=False)
    assert summary.frames == 7 and f"going on in tiles of {tile} pixels" in caplog.text
    deblur(base(), clip, tmp_path / "whole", progress=False)
    for a in sorted((tmp_path / "whole").iterdir()):
        assert a.read_bytes() == (tmp_path / "out" / a.name).read_bytes()


def test_states_are_cut_to_smaller_tiles():
    model = rirn.create_model("ifi-rnn+rirn", width=0.2, residual=False).eval()
    clip = torch.rand(3, 1, 3, 150, 203)
    _, whole = run(Tiled(model, None), clip)
    layout = boxes((150, 203), 96, 32)
    cut = recut(whole, layout)
    for (top, bottom, left, right), state in zip(layout, cut.states, strict=True):
        sharp, _ = model.step(clip[0][..., top:bottom, left:right], state)  # the sizes fit
        assert sharp.shape[-2:] == (bottom - top, right - left)
    back = recut(cut, boxes((150, 203), 256, 32))
    for name, tensor in whole.states[0].tensors().items():
        assert torch.equal(tensor, back.states[0].tensors()[name])


def test_too_little_memory_for_any_tile_is_one_sentence():
    with pytest.raises(RirnError, match="not even in tiles of"):
        model = hungry(Identity, 0, MemoryError()).eval()
        model.states += [0] * 3
        Tiled(model).step(torch.rand(1, 3, 200, 200), None)


def test_other_errors_are_not_taken_for_it():
    class Broken(nn.Module):
        def step(self, frame, state):
            raise RuntimeError("shapes differ")

    with pytest.raises(RuntimeError, match="shapes differ"):
        Tiled(Broken()).step(torch.rand(1, 3, 200, 200), None)


def test_auto_takes_tiles_only_where_a_frame_does_not_fit(monkeypatch, caplog):
    frame = torch.rand(1, 3, 500, 600)
    monkeypatch.setattr(tiles_module, "needed_bytes", lambda model, frame: (10**9, 10**8))
    for free, count in ((10**10, 1), (None, 1), (10**9, 4), (5 * 10**8, 12)):
        monkeypatch.setattr(tiles_module, "free_bytes", lambda device, free=free: free)
        _, state = Tiled(Blur()).step(frame, None)
        assert len(state.boxes) == count
    assert caplog.text.count("working in tiles") == 2


def test_auto_decides_anew_for_frames_of_another_size(monkeypatch):
    monkeypatch.setattr(tiles_module, "needed_bytes", lambda model, frame: (10**9, 10**8))
    monkeypatch.setattr(tiles_module, "free_bytes", lambda device: 10**9)
    tiled = Tiled(Blur())
    for size, count in (((64, 64), 1), ((500, 600), 4), ((64, 64), 1)):
        _, state = tiled.step(torch.rand(1, 3, *size), None)
        assert len(state.boxes) == count


@pytest.mark.parametrize(("before", "after"), [(5 * 10**8, 10**10), (10**10, 5 * 10**8)])
def test_a_run_that_goes_on_keeps_its_tiles(monkeypatch, before, after):
    frame, free = torch.rand(1, 3, 600, 600), [before]
    monkeypatch.setattr(tiles_module, "needed_bytes", lambda model, frame: (10**9, 10**8))
    monkeypatch.setattr(tiles_module, "free_bytes", lambda device: free[0])
    _, state = Tiled(Blur()).step(frame, None)
    free[0] = after
    resumed = Tiled(Blur())
    resumed.prepare((600, 600), frame.device, frame.dtype)
    resumed.step(frame, state)
    _, behind_a_cut = resumed.step(frame, None)
    assert behind_a_cut.boxes == state.boxes and (len(state.boxes) == 1) == (before > after)


class Late(Blur):
    """Does nothing until it has seen three frames."""

    delay = 2

    def step(self, frame, state):
        state = [*(state or []), frame]
        return (super().step(state[0], None)[0], state[1:]) if len(state) > self.delay else (None, state)


class Hoarding(Blur):
    """Makes a buffer for all sizes once."""

    buffer = None

    def step(self, frame, state):
        if self.buffer is None:
            self.buffer = torch.ones(50_000_000)
        return super().step(frame, state)


@pytest.mark.parametrize("model", [Blur, Late, Hoarding])
def test_the_need_of_a_step_is_measured(model):
    frame = torch.rand(1, 3, 1024, 512)
    measured = needed_bytes(model(), frame)
    if measured is None:
        pytest.skip("this system does not say how much memory a process had at most")
    needed, state = measured
    assert state == frame.nbytes * (2 if model is Late else 1)
    assert 2 * frame.nbytes < needed < 40 * frame.nbytes
    assert free_bytes(torch.device("cpu")) > 0


def test_when_not_even_a_piece_fits_tiles_are_halved():
    class Small(Blur):
        def step(self, frame, state):
            if frame.shape[-1] > 160:
                raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
            return super().step(frame, state)

    frame = torch.rand(1, 3, 600, 600)
    sharp, state = Tiled(Small()).step(frame, None)
    assert sharp.shape == frame.shape and len(state.boxes) > 16


@pytest.mark.parametrize("options", [{"tile": 64, "overlap": 48}, {"overlap": 10}], ids=str)
def test_impossible_overlaps_are_refused(options):
    with pytest.raises(ValueError, match="multiple of 16"):
        Tiled(Blur(), **options)


@pytest.mark.parametrize("tile", [50, 32, 72, "all", True, 64.0])
def test_impossible_tiles_are_refused(tile):
    with pytest.raises(RirnError, match="a multiple of 16 of at least 64"):
        Tiled(Blur(), tile)

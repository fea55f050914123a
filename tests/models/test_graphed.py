"""Steps as CUDA graphs, against a stand-in for the capture: it runs the step again and writes where it wrote before, as a
graph does. What a GPU makes of a real one is tests/gpu/test_graphs.py."""

import logging

import pytest
import torch
from PIL import Image
from torch.utils._pytree import tree_leaves

import rirn
from rirn import GraphedStep
from rirn.models import graphed
from rirn.ops import use_backend
from rirn.video.benchmark import benchmark
from rirn.video.run import deblur
from rirn.video.tiles import Tiled
from tests.models.cases import small, video

MODELS = [
    "ifi-rnn+rirn",
    "rdbn+rirn",
    "rdbn+gsa",
    "strcnn+rirn",
    "stfan+rirn",
    "estrnn",
    "gru+rirn",
    "lstm+irm",
]


@pytest.fixture
def captures(monkeypatch):
    """The captures made, with every tensor taken for one on a GPU."""
    made = []

    def capture(run, device):
        results = run()

        def replay():
            for kept, new in zip(tree_leaves(results), tree_leaves(run()), strict=True):
                if kept is not None:
                    kept.copy_(new)

        made.append(replay)
        return replay, results

    monkeypatch.setattr(graphed, "_capture", capture)
    monkeypatch.setattr(graphed, "_on_gpu", lambda frame: True)
    return made


@pytest.fixture(autouse=True)
def no_gradients():
    with torch.inference_mode():
        yield


def check(model, step, frames, state=None, other=None):
    """Images, states and what waits at the end are those of plain steps; older states stay what they were."""
    kept = []
    for frame in frames:
        sharp, state = model.step(frame, state)
        got, other = step.step(frame, other)
        assert (got is None) == (sharp is None)
        assert got is None or torch.equal(got, sharp)
        kept.append((state, other))
    for state, other in kept:
        for (name, got), want in zip(other.tensors().items(), state.tensors().values(), strict=True):
            assert torch.equal(got, want), name
    for got, want in zip(step.flush(other), model.flush(state), strict=True):
        assert torch.equal(got, want)
    return kept[-1]


@pytest.mark.parametrize("name", MODELS)
def test_replays_are_plain_steps(captures, name):
    model = small(name).eval()
    step = GraphedStep(model)
    frames = video(model.delay + 8, 1, 3, 24, 40)
    check(model, step, frames)
    assert len(captures) == 1
    assert step.replays >= 3 and step.reason is None
    assert str(step) == f"{step.replays} of {step.steps} steps as CUDA graphs"


@pytest.mark.parametrize("name", MODELS)
def test_the_starts_of_videos_are_replayed(captures, name):
    """Where a look-ahead fills, a step has no image."""
    model = small(name).eval()
    step = GraphedStep(model)
    for _ in range(4):
        check(model, step, video(model.delay + 2, 1, 3, 24, 40))
    assert len(captures) >= model.delay


def benchmarks(step, model, steps, monkeypatch):
    """Whether cuDNN was to time its algorithms, at each step that the model made."""
    seen, plain = [], model.step

    def watched(frame, state):
        seen.append(torch.backends.cudnn.benchmark)
        return plain(frame, state)

    monkeypatch.setattr(model, "step", watched)
    state = None
    for frame in video(steps, 1, 3, 16, 24):
        _, state = step.step(frame, state)
    return seen


@pytest.mark.parametrize("before", [False, True])
def test_algorithms_are_timed_for_a_size_that_comes_again(captures, monkeypatch, before):
    """Of steps with a state; and the setting is put back."""
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", before)
    model = small("ifi-rnn").eval()
    found = benchmarks(GraphedStep(model, measure=True), model, 5, monkeypatch)
    # Without a state, with one for the first time, for the second, captured, and two replays by the stand-in.
    assert found == [before, before, True, True, before, before]
    assert torch.backends.cudnn.benchmark is before


@pytest.mark.parametrize("reason", ["not asked for", "cudnn", "torch", "gradients"])
def test_algorithms_are_not_timed(captures, monkeypatch, reason):
    model = small("ifi-rnn").eval()
    if reason == "cudnn":
        monkeypatch.setattr(torch.backends.cudnn, "deterministic", True)
    if reason == "torch":
        monkeypatch.setattr(torch, "are_deterministic_algorithms_enabled", lambda: True)
    step = GraphedStep(model, measure=reason != "not asked for")
    with torch.inference_mode(reason != "gradients"), torch.set_grad_enabled(reason == "gradients"):
        assert not any(benchmarks(step, model, 5, monkeypatch))


def test_the_setting_is_put_back_after_an_error(captures, monkeypatch):
    model = small("ifi-rnn").eval()
    step = GraphedStep(model, measure=True)
    state = None
    for frame in video(2, 1, 3, 16, 24):
        _, state = step.step(frame, state)
    monkeypatch.setattr(model, "step", lambda frame, state: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        step.step(frame, state)
    assert torch.backends.cudnn.benchmark is False


def test_deblur_and_stream_let_algorithms_be_timed():
    assert graphed.ready(small("ifi-rnn"), torch.device("cpu"), torch.float32)._measure


def test_every_size_has_its_graph(captures):
    model = small("ifi-rnn+rirn").eval()
    step = GraphedStep(model)
    for size in [(16, 24), (24, 16), (16, 24)]:
        check(model, step, video(5, 1, 3, *size))
    assert len(captures) == 2


def test_no_more_graphs_are_held_than_memory_should(captures, monkeypatch):
    monkeypatch.setattr(graphed, "MOST_GRAPHS", 2)
    model = small("ifi-rnn").eval()
    step = GraphedStep(model)
    for width in (16, 20, 24, 16):
        check(model, step, video(4, 1, 3, 16, width))
    assert len(captures) == 4
    assert len(step._graphs) == 2


@pytest.mark.parametrize("change", ["strength", "backend", "weights"])
def test_what_a_step_depends_on_is_captured_anew(captures, change):
    model = small("ifi-rnn+irm", residual=True).eval()
    torch.nn.init.normal_(model.base.output_layer.weight, std=0.05)
    step = GraphedStep(model)
    frames = video(5, 1, 3, 16, 24)
    check(model, step, frames)
    if change == "backend":
        with use_backend("reference"):
            check(model, step, frames)
    else:
        if change == "strength":
            model.strength = 0.5
        else:
            for parameter in model.parameters():
                parameter.data = parameter.data * 0.9
        check(model, step, frames)
    assert len(captures) == 2


def test_a_step_that_cannot_be_captured_runs_as_it_is(captures, monkeypatch, caplog):
    def fails(run, device):
        raise RuntimeError("operation not permitted when stream is capturing\nCompile with ...")

    monkeypatch.setattr(graphed, "_capture", fails)
    model = small("ifi-rnn+rirn").eval()
    step = GraphedStep(model)
    with caplog.at_level(logging.WARNING):
        check(model, step, video(6, 1, 3, 16, 24))
    assert step.replays == 0
    assert step.reason.endswith("captured: operation not permitted when stream is capturing")
    assert caplog.messages == [f"Steps run one kernel after the other, for {step.reason}."]


def test_graphs_give_their_memory_back_where_it_runs_out(captures):
    model = small("ifi-rnn+rirn").eval()
    step = GraphedStep(model)
    frames = video(5, 1, 3, 16, 24)
    state, other = check(model, step, frames)
    plain, calls = model.step, []

    def scarce(frame, state):
        calls.append(len(step._graphs))
        if step._graphs:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return plain(frame, state)

    model.step = scarce
    step.step(video(1, 3, 40, 40), None)
    assert calls == [1, 0]
    got, _ = step.step(frames[0], other)
    assert torch.equal(got, plain(frames[0], state)[0])
    assert step.reason == "memory ran out beside the graphs"


def test_reasons_for_plain_steps(captures, monkeypatch):
    model = small("ifi-rnn", torch.float32).eval()
    step = GraphedStep(model)
    frame = video(1, 3, 16, 24).float()
    with torch.inference_mode(False), torch.enable_grad():
        step.step(frame.clone(), None)
        assert "torch.no_grad()" in step.reason
    with torch.autocast("cpu", torch.bfloat16):
        step.step(frame, None)
        assert "autocast" in step.reason
    model.train()
    step.step(frame, None)
    assert "model.eval()" in step.reason
    model.eval()
    monkeypatch.setattr(graphed, "_on_gpu", lambda frame: False)
    step.step(frame, None)
    assert step.reason == "the frames are on cpu, and CUDA graphs are for GPUs"
    assert captures == []


def test_it_has_what_the_model_has(captures):
    model = small("strcnn").eval()
    step = GraphedStep(model)
    assert (step.delay, step.dropped, step.half_resolution) == (2, 0, False)
    with pytest.raises(AttributeError):
        step.nothing_of_that_name  # noqa: B018


def test_networks_of_ours_alone_get_graphs_by_themselves():
    model = small("ifi-rnn")
    assert isinstance(graphed.ready(model, torch.device("cpu"), torch.float32), GraphedStep)
    assert graphed.ready(model.base, torch.device("cpu"), torch.float32) is model.base


def test_a_stream_replays(captures):
    model = small("ifi-rnn+rirn", torch.float32).eval()
    frames = [(255 * frame[0].permute(1, 2, 0)).byte().numpy() for frame in video(6, 1, 3, 16, 24)]
    with torch.inference_mode(False):
        for got, want in zip(
            rirn.stream(frames, model, scene_reset=False), plainly(model, frames), strict=True
        ):
            assert (got == want).all()
    assert len(captures) == 1


def test_a_video_is_restored_with_graphs(captures, tmp_path):
    model = small("ifi-rnn+rirn", torch.float32).eval()
    folder = tmp_path / "frames"
    folder.mkdir()
    for i, frame in enumerate(video(6, 3, 16, 24)):
        Image.fromarray((255 * frame.permute(1, 2, 0)).byte().numpy()).save(folder / f"{i}.png")
    with torch.inference_mode(False):
        assert deblur(model, folder, tmp_path / "out", progress=False).frames == 6
        assert len(captures) == 1
        assert str(benchmark(model, folder)).endswith("encode not run")  # on a CPU nothing is said of graphs


def plainly(model, frames):
    """What comes out without graphs."""
    state = None
    for frame in frames:
        image = torch.from_numpy(frame).permute(2, 0, 1)[None].float().div_(255).contiguous()
        with torch.inference_mode():
            sharp, state = model.step(image, state)
        yield (sharp[0].permute(1, 2, 0).clamp(0, 1) * 255).round().byte().numpy()


def test_tiles(captures):
    model = small("ifi-rnn+rirn").eval()
    frames = video(6, 1, 3, 72, 88)
    plain, tiled = Tiled(model, tile=64), Tiled(GraphedStep(model), tile=64)
    state = other = None
    for frame in frames:
        sharp, state = plain.step(frame, state)
        got, other = tiled.step(frame, other)
        assert torch.equal(got, sharp)
    assert captures

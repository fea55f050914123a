"""What every model promises, whatever its layers: one recurrence however the video is cut, any size, any
batch.

All tests run over all names at a small width. Frames are compared in float64, where equal means equal but for
the order of sums: 1e-12.
"""

import pytest
import torch

from rirn import State
from tests.models.cases import NAMES, quick, small, video
from tests.models.drift import both

EXACT = 1e-12
DRIFT = 5e-3
"""Mean error of an image in bf16, whose own steps at 1/2 are 4e-3, after 500 frames; worst seen 1.2e-3."""
BF16 = 4e-3  # worst seen 1.0e-3
FEW = ["ifi-rnn+rirn", "strcnn+rirn", "stfan", "rdbn+gsa", "estrnn", "mmp-rnn+rirn", "lstm+irm"]
"""One model of each kind: plain state, window of frames, image fed back, window of features, alone and fused, two states."""


def stepped(model, clip):
    """Return the clip [N, T, 3, H, W] restored frame by frame, and the states on the way."""
    sharp, states = [], [None]
    for frame in clip.unbind(1):
        image, state = model.step(frame, states[-1])
        states.append(state)
        sharp += [] if image is None else [image]
    return torch.stack(sharp + model.flush(states[-1]), 1), states


def assert_equal(got, expected, tolerance=EXACT):
    assert got.shape == expected.shape
    assert (got - expected).abs().le(tolerance).all(), (got - expected).abs().max()


@pytest.mark.parametrize("name", NAMES)
def test_steps_and_chunks_equal_the_whole_clip(name):
    model = small(name)
    clip = video(1, 7, 3, 10, 13)
    whole = model(clip)
    assert whole.shape == clip.shape
    assert whole.isfinite().all()
    assert_equal(stepped(model, clip)[0], whole)
    state, parts = None, []
    for chunk in clip.split(2, 1):
        part, state = model(chunk, state, return_state=True)
        parts.append(part)
    rest = model.flush(state)
    assert len(rest) == model.delay
    assert_equal(torch.cat([*parts, *(image[:, None] for image in rest)], 1), whole)


@pytest.mark.parametrize("name", NAMES)
def test_delay_fills_and_drains(name):
    model = small(name)
    clip = video(1, 4, 3, 8, 8)
    state = None
    for t, frame in enumerate(clip.unbind(1)):
        image, state = model.step(frame, state)
        assert (image is None) == (t < model.delay)
    assert len(model.flush(state)) == model.delay
    assert model.delay == (2 if name.startswith(("strcnn", "estrnn", "mmp-rnn")) else 0)
    assert model.flush(None) == []


@pytest.mark.parametrize("name", NAMES)
def test_state_survives_a_file(name, tmp_path):
    model = small(name)
    clip = video(1, 6, 3, 8, 12)
    whole, states = stepped(model, clip)
    for t in (1, 3, 5):
        states[t].save(tmp_path / "state.safetensors")
        state = State.load(tmp_path / "state.safetensors")
        assert_equal(model(clip[:, t:], state), whole[:, max(0, t - model.delay) :])


@pytest.mark.parametrize("name", NAMES)
def test_elements_of_a_batch_are_independent(name):
    model = small(name)
    clip = video(3, 4, 3, 8, 8)
    together, state = model(clip, return_state=True)
    alone, last = model(clip[2:], return_state=True)
    assert_equal(together[2:], alone)
    for name_, tensor in state[2].tensors().items():
        assert_equal(tensor, last.tensors()[name_])


@pytest.mark.parametrize("name", NAMES)
def test_any_size_and_length(name):
    model = small(name)
    for t, h, w in [(1, 1, 1), (3, 2, 5), (1, 9, 3), (2, 31, 40)]:
        clip = video(1, t, 3, h, w)
        restored = model(clip)
        assert restored.shape == clip.shape
        assert restored.isfinite().all()


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_every_side_from_1_to_40_is_the_padded_frame_cropped(name):
    model = small(name)
    for height in range(1, 41):
        width = 41 - height
        clip = video(1, 1 + height % 3, 3, height, width)
        multiple = model.base.multiple
        padding = (0, -width % multiple, 0, -height % multiple, 0, 0)
        padded = torch.nn.functional.pad(clip, padding, mode="replicate")
        assert_equal(model(clip), model(padded)[..., :height, :width])


@pytest.mark.parametrize("name", NAMES)
def test_every_parameter_learns(name):
    model = small(name).requires_grad_(True).train()
    if model.dtb is not None or getattr(model.base, "dtb", None) is not None:  # at 0 a sum may pass the clamp
        (model.dtb or model.base.dtb).beta.data.fill_(0.1)
    if name.startswith("mmp-rnn"):  # all of the three units that the attention has at this width may be off
        model.base.fusion.attention[0].bias.data.fill_(1)
    model(video(1, 4, 3, 8, 8)).square().sum().backward()
    silent = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert silent == []


@pytest.mark.parametrize("name", NAMES)
def test_autocast(name):
    model = small(name, torch.float32)
    clip = video(1, 4, 3, 8, 8).float()
    exact = model(clip)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = model(clip)
        by_step, _ = stepped(model, clip)
    assert rounded.dtype == by_step.dtype == torch.float32
    assert_equal(rounded, exact, BF16)
    assert_equal(by_step, exact, BF16)


@pytest.mark.parametrize("name", NAMES)
def test_residual_model_starts_as_its_input(name):
    clip = video(1, 4, 3, 9, 6)
    assert_equal(small(name, residual=True)(clip), clip)


# Not where RIRN takes the place of the network's own blending, which then is another network.
ADDED = [
    n
    for n in NAMES
    if "+" in n and not n.endswith(("+dtb", "+gsa")) and n not in ("strcnn+atb", "strcnn+rirn")
]


@pytest.mark.parametrize("name", ADDED)
def test_identity_init_starts_as_the_base(name):
    model, base = small(name, identity_init=True), small(name.partition("+")[0])
    model.base.load_state_dict(base.base.state_dict())
    clip = video(1, 4, 3, 8, 8)
    assert_equal(model(clip), base(clip))
    assert (small(name)(clip) - base(clip)).abs().max() > 1e-3


@pytest.mark.parametrize("name", ["strcnn+rirn", "rdbn+gsa", "estrnn"])
def test_dropped_ends_are_the_only_difference(name):
    clip = video(1, 7, 3, 8, 8)
    dropping, repeating = small(name, ends="drop"), small(name)
    assert (dropping.dropped, repeating.dropped) == (2, 0)
    kept = slice(2, 7 - dropping.delay)
    restored = dropping(clip)
    assert restored.shape[1] == kept.stop - kept.start
    assert_equal(stepped(dropping, clip)[0], restored)
    if name != "strcnn+rirn":  # whose recurrence itself starts later
        assert_equal(restored, repeating(clip)[:, kept])
    assert dropping(clip[:, :2]).shape == (1, 0, 3, 8, 8)
    assert_equal(small(name, ends="drop", residual=True)(clip), clip[:, kept])


@pytest.mark.parametrize("name", FEW)
def test_state_of_another_video_or_model_is_refused(name):
    model = small(name)
    frame = video(1, 3, 8, 8)
    _, state = model.step(frame, None)
    with pytest.raises(ValueError, match="pass None when the video or its frame size changes"):
        model.step(video(1, 3, 16, 8), state)
    with pytest.raises(ValueError, match="pass None when the video or its frame size changes"):
        model.step(video(2, 3, 8, 8), state)
    for other in ("gru", "gru+irm", "rdbn+dtb", "ifi-rnn+irm"):
        foreign = small(other).step(frame, None)[1]
        with pytest.raises(ValueError, match="another kind of model"):
            model.step(frame, foreign)


@pytest.mark.parametrize("shape", [(3, 8, 8), (1, 1, 8, 8), (1, 2, 3, 8, 8)])
def test_frame_of_the_wrong_shape(shape):
    with pytest.raises(ValueError, match=r"frame must be \[N, 3, H, W\]"):
        small("gru").step(video(*shape), None)


def test_images_in_8_bits_are_refused():
    frame = torch.zeros(1, 3, 8, 8, dtype=torch.uint8)
    with pytest.raises(
        ValueError, match=r"frame must be floating-point .* got torch\.uint8: use frame / 255"
    ):
        small("gru").step(frame, None)
    with pytest.raises(ValueError, match="clip must be floating-point"):
        small("gru")(frame[None])


@pytest.mark.parametrize("shape", [(3, 8, 8), (1, 0, 3, 8, 8), (1, 2, 4, 8, 8)])
def test_clip_of_the_wrong_shape(shape):
    with pytest.raises(ValueError, match=r"clip must be \[N, T, 3, H, W\] with T >= 1"):
        small("gru")(video(*shape))


def test_stfan_reads_back_an_image_within_range():
    model, free = small("stfan"), small("stfan", clamp_feedback=False)
    clip = 3 * video(1, 3, 3, 8, 8) - 1
    _, state = model(clip, return_state=True)
    assert state.base[2].abs().max() == 0.5
    assert (model(clip)[:, 0] - free(clip)[:, 0]).abs().max() == 0
    assert (model(clip)[:, 1:] - free(clip)[:, 1:]).abs().max() > 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_long_video_in_bf16(name, record_property):
    worst = 0.0
    for truth, image, *_ in both(name, 8, 8):
        assert image.isfinite().all()
        worst = max(worst, (image - truth).abs().mean().item())
    record_property("drift", worst)
    assert worst <= DRIFT


def steady(model, clip):
    """Return a state in the middle of a video: a step from it restores a frame."""
    return model(clip, return_state=True)[1]


def assert_compiles(name, backend):
    torch.compiler.reset()  # or the limit on compiled versions of one function counts those of other models
    model, clip = small(name, torch.float32), video(1, 6, 3, 8, 8).float()
    state = steady(model, clip[:, :5])
    compiled = torch.compile(model.step, fullgraph=True, backend=backend)
    expected, after = model.step(clip[:, 5], state)
    with torch.no_grad():
        image, compiled_state = compiled(clip[:, 5], state)
    assert_equal(image, expected, 1e-5)
    for name_, tensor in after.tensors().items():
        assert_equal(compiled_state.tensors()[name_], tensor, 1e-5)


@pytest.mark.parametrize("name", quick("ifi-rnn+rirn"))
def test_step_compiles_without_graph_breaks(name):
    assert_compiles(name, "aot_eager")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ifi-rnn+rirn", "rdbn+rirn", "stfan+rirn"])
def test_step_compiles_to_machine_code(name):
    assert_compiles(name, "inductor")


class Step(torch.nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, frame, state):
        return self.model.step(frame, state)


@pytest.mark.parametrize("name", quick("ifi-rnn+rirn"))
def test_step_exports_with_the_state_as_input_and_output(name):
    model, clip = small(name, torch.float32), video(1, 6, 3, 8, 8).float()
    state = steady(model, clip[:, :5])
    program = torch.export.export(Step(model), (clip[:, 0], state))
    expected, after = model.step(clip[:, 5], state)
    image, exported = program.module()(clip[:, 5], state)
    assert_equal(image, expected, 1e-5)
    for name_, tensor in after.tensors().items():
        assert_equal(exported.tensors()[name_], tensor, 1e-5)

"""Whether the state of a model stays bounded over a long video, in float32 and in bf16: the table in notes/robustness.md.

``python -m tests.models.stability [NAME ...]`` in the root of the repository prints its rows; a name is that of a model, which
gets random weights, or of weights that ship.
"""

import copy
import sys
from collections import defaultdict

import torch

import rirn
from rirn.weights import shipped
from tests.models.cases import NAMES, small, video
from tests.models.drift import psnr

FRAMES = 2000
SIDE = 16
PERIOD = 20
"""Frames of noise, over and over; the other video of the batch is one white frame that stands still."""

ENDS = 100
"""Images at either end of the video with figures of their own."""


def pair(name):
    """The model of that name, or the one with these weights, in float32 and in bf16."""
    if name not in shipped():
        return small(name, torch.float32), small(name, torch.bfloat16)
    model = rirn.load(name)
    return model, copy.deepcopy(model).to(torch.bfloat16)


def both(name, side, frames):
    """Yield each image [2, 3, side, side] in float32 and in bf16, and the tensors of the two states behind it.

    Both start from the same weights before rounding, and each keeps its own state from the first frame on. The first video of the
    batch is noise, the second one white.
    """
    exact, rounded = pair(name)
    noise = video(1, PERIOD, 3, side, side).float()
    clip = torch.cat([noise, torch.ones_like(noise)])
    states = [None, None]
    for t in range(frames):
        frame = clip[:, t % PERIOD]
        with torch.inference_mode():
            truth, states[0] = exact.step(frame, states[0])
            image, states[1] = rounded.step(frame.bfloat16(), states[1])
        if image is not None:
            yield truth, image.float(), *(state.to(torch.float32).tensors() for state in states)


def size(state):
    """Root mean square of the largest tensor of a state in the worse of its videos, but for the frames in it; NaN if any is."""
    values = [
        t.flatten(1).square().mean(1).sqrt().max() for n, t in state.items() if not n.startswith("frames")
    ]
    return torch.stack(values).max().item()


def halves(name, side=SIDE, frames=FRAMES):
    """The largest :func:`size` of the state in each half of the video, in float32 and in bf16, and the squared errors of the
    images."""
    sizes, squares = defaultdict(list), []
    for truth, image, *states in both(name, side, frames):
        squares.append((image - truth).square().mean().item())
        for precision, state in zip(("fp32", "bf16"), states, strict=True):
            sizes[precision].append(size(state))
    middle = len(squares) // 2
    found = {p: [_largest(s[:middle]), _largest(s[middle:])] for p, s in sizes.items()}
    return found, squares


def _largest(values):
    return torch.tensor(values).max().item()  # NaN if any is


def main(names):
    torch.set_num_threads(1)
    print("| model | state, fp32 | second half | state, bf16 | second half | PSNR of bf16 | last images |")
    print("|---|---|---|---|---|---|---|", flush=True)
    for name in names or (*shipped(), *NAMES):
        sizes, squares = halves(name)
        cells = [f"{x:.3f}" for pair_ in sizes.values() for x in pair_]
        cells += [f"{psnr(part):.1f}" for part in (squares[:ENDS], squares[-ENDS:])]
        print(f"| `{name}` | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])

"""How far a model in bf16 strays from itself in float32 over a long video: the table in notes/bf16.md.

``python -m tests.models.drift [NAME ...]`` in the root of the repository prints its rows.
"""

import math
import sys

import torch

from tests.models.cases import NAMES, small, video

PERIOD = 20  # frames of noise, over and over
ENDS = 50  # images at either end of the video with figures of their own


def both(name, height, width, frames=500):
    """Yield each image [1, 3, height, width] in float32 and in bf16, and the two states behind it.

    Both start from the same weights before rounding, and each keeps its own state from the first frame on.
    """
    exact, rounded = small(name, torch.float32), small(name, torch.bfloat16)
    clip = video(1, PERIOD, 3, height, width).float()
    states = [None, None]
    for t in range(frames):
        frame = clip[:, t % PERIOD]
        truth, states[0] = exact.step(frame, states[0])
        image, states[1] = rounded.step(frame.bfloat16(), states[1])
        if image is not None:
            yield truth, image.float(), *(state.to(torch.float32).tensors() for state in states)


def psnr(squares):
    """PSNR in dB, peak 1, of a list of mean squared errors."""
    mean = sum(squares) / len(squares)
    return -10 * math.log10(mean) if mean else math.inf


def deviation(exact, rounded):
    """Largest root mean square difference of a tensor of the state, over the standard deviation of its values."""
    ratios = [(rounded[name] - t).square().mean().sqrt() / t.std() for name, t in exact.items()]
    return torch.stack(ratios).max().item()  # NaN if any is


def main(names):
    torch.set_num_threads(1)
    print("| model | image, largest | PSNR, all | first 50 | last 50 | state, first 50 | last 50 |")
    print("|---|---|---|---|---|---|---|", flush=True)
    for name in names or NAMES:
        largest, squares, states = 0.0, [], []
        for truth, image, state, rounded in both(name, 64, 64):
            error = image - truth
            if not error.isfinite().all():
                sys.exit(f"{name}: an image is not finite")
            largest = max(largest, error.abs().max().item())
            squares.append(error.square().mean().item())
            states.append(deviation(state, rounded))
        decibels = [psnr(squares), psnr(squares[:ENDS]), psnr(squares[-ENDS:])]
        percent = [100 * torch.tensor(part).max().item() for part in (states[:ENDS], states[-ENDS:])]
        cells = [*(f"{x:.1f}" for x in decibels), *(f"{x:.2f} %" for x in percent)]
        print(f"| `{name}` | {largest:.4f} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])

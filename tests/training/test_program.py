"""Training from a program: any dataset, any loss, functions to call after each step."""

import random

import numpy as np
import pytest
import torch

from rirn import RirnError, load, register_loss
from rirn.ops.held import _quarter, most_held
from rirn.training import DataConfig, OptimConfig, train
from rirn.training.loader import NumberedClips
from rirn.training.losses import LOSSES
from tests.training.runs import config, losses


class Numbers(torch.utils.data.Dataset):
    """Clips of one level each: number i has i / 10."""

    def __init__(self, length=4, shape=(3, 3, 32, 32)):
        self.length, self.shape = length, shape

    def __len__(self):
        return self.length

    def __getitem__(self, i):
        if not 0 <= i < self.length:
            raise IndexError(i)
        return torch.full(self.shape, i / 10), torch.full(self.shape, i / 10)


def test_each_epoch_has_every_clip_once_in_an_order_of_its_own():
    clips = NumberedClips(Numbers(), frames=3, seed=0)
    epochs = [[round(10 * float(clips[4 * e + i][0].max())) for i in range(4)] for e in range(6)]
    assert (
        all(sorted(epoch) == [0, 1, 2, 3] for epoch in epochs) and len({tuple(epoch) for epoch in epochs}) > 2
    )
    assert clips.source(0) == f"Numbers[{epochs[0][0]}]" and len(clips) == 4
    assert [float(NumberedClips(Numbers(), frames=3, seed=0)[i][0].max()) for i in range(8)] == [
        float(clips[i][0].max()) for i in range(8)
    ]


class Noise(Numbers):
    """Clips of one level each, drawn by all generators there are."""

    def __getitem__(self, i):
        level = (torch.rand(()) + np.random.rand() + random.random()) / 3
        return (torch.full(self.shape, level.item()),) * 2


def levels(seed, first=0, workers=0):
    clips = NumberedClips(Noise(), frames=3, seed=seed)
    loader = torch.utils.data.DataLoader(
        clips, sampler=range(first, 8), num_workers=workers, generator=torch.Generator()
    )
    return [float(blurry.max()) for blurry, _ in loader]


def test_what_a_dataset_draws_depends_on_the_number_and_the_seed_alone():
    before = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()
    first = levels(0)
    assert len({*first, *levels(1)}) == 16
    assert levels(0, workers=2) == first and levels(0, first=5) == first[5:]
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.array_equal(np.random.get_state()[1], before[1]) and random.getstate() == before[2]


def test_dataset_loss_and_callbacks(tmp_path):
    seen = []
    settings = config(tmp_path, tmp_path / "out", optim=OptimConfig(lr=1e-3, steps=3))
    settings.data.train = []

    def loss(restored, sharp):
        assert restored.shape == sharp.shape == (2, 3, 3, 32, 32)
        return (restored - sharp - 1).square().mean()

    weights = train(
        settings,
        dataset=Numbers(),
        loss=loss,
        callbacks=[lambda step, figures, model: seen.append((step, figures["loss"]))],
    )
    assert [step for step, _ in seen] == [1, 2, 3] and seen[0][1] == pytest.approx(1)
    assert [loss for _, loss in seen] == losses(tmp_path / "out")
    assert load(weights).config["width"] == 0.2


@pytest.mark.parametrize(("hold_mib", "most"), [(None, _quarter()), (0, 0), (3, 3 << 20)])
def test_what_a_run_may_hold(hold_mib, most, tmp_path):
    settings = config(tmp_path, tmp_path / "out", optim=OptimConfig(lr=1e-3, steps=1), hold_mib=hold_mib)
    settings.data.train = []
    seen = []
    train(settings, dataset=Numbers(), callbacks=[lambda *args: seen.append(most_held())])
    assert seen == [most]


@pytest.mark.parametrize(
    ("dataset", "message"),
    [
        (Numbers(0), "the dataset Numbers is empty"),
        (object(), "the dataset object has no length"),
        (Numbers(4, (3, 1, 32, 32)), r"Numbers\[\d\] must be a blurry and a sharp clip \[T, 3, H, W\]"),
        (
            Numbers(4, (4, 3, 32, 32)),
            r"with the T of data\.frames, 3; got \[4, 3, 32, 32\] and \[4, 3, 32, 32\]",
        ),
    ],
)
def test_what_is_no_dataset_of_clips_is_one_sentence(tmp_path, dataset, message):
    settings = config(tmp_path, tmp_path / "out")
    with pytest.raises(RirnError, match=message):
        train(settings, dataset=dataset)


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        (lambda restored, sharp: restored - sharp, r"got a tensor \[2, \d+, 3, 32, 32\]$"),
        (lambda restored, sharp: (restored.mean(), sharp.mean()), r"got \(tensor"),
        (lambda restored, sharp: restored.mean().item(), r"got -?\d"),
        (lambda restored, sharp: sharp.mean(), r"got a tensor \[\], without a gradient$"),
    ],
    ids=["image", "two", "float", "no gradient"],
)
def test_what_is_no_loss_is_one_sentence(tmp_path, loss, message):
    settings = config(tmp_path, tmp_path / "out")
    settings.data.train = []
    with pytest.raises(RirnError, match=f"^the loss must return one number, .*; {message}"):
        train(settings, dataset=Numbers(), loss=loss)


def test_a_registered_loss_is_known_by_name(data, tmp_path):
    @register_loss("largest")
    def largest(restored, sharp):
        return (restored - sharp).abs().max()

    train(config(data, tmp_path, optim=OptimConfig(loss="largest", lr=1e-30, steps=1)))
    del LOSSES["largest"]
    assert losses(tmp_path)[0] > 0
    with pytest.raises(RirnError, match=r"optim\.loss must be one of l1, psnr; got 'largest'"):
        config(data, tmp_path, optim=OptimConfig(loss="largest"))


def test_a_model_to_train(tmp_path):
    model = load("rirn-tiny", trainable=True)
    assert model.training and all(p.requires_grad for p in model.parameters())
    model = load("rirn-tiny")
    assert not model.training and not any(p.requires_grad for p in model.parameters())
    assert DataConfig(train=[]).sources == []

"""The networks of public code, in plain PyTorch: their names and shapes of tensors, and what they compute.

Written from the description of their layers, apart from those of this package: a second opinion on each. Clips are
[1, T, 3, H, W] as the public code feeds them.
"""

import torch
import torch.nn.functional as F
from torch import nn


def conv(i, o, kernel, stride=1):
    return nn.Conv2d(i, o, kernel, stride, kernel // 2)


def up(i, o):
    return nn.ConvTranspose2d(i, o, 3, 2, 1, 1)


def named(**parts):
    return nn.ModuleDict(parts)


def res(c, norm=False):
    layers = [conv(c, c, 3), nn.ReLU(), conv(c, c, 3)]
    if norm:
        layers = [layers[0], nn.BatchNorm2d(c), layers[1], layers[2], nn.BatchNorm2d(c)]
    return named(main_branch=nn.Sequential(*layers))


def zeros(clip, channels, ratio):
    n, _, _, height, width = clip.shape
    return clip.new_zeros(n, channels, height // ratio, width // ratio)


def ifi_rnn():
    def cell(last):
        return named(
            F_B=nn.Sequential(conv(3, 20, 5), conv(20, 40, 5, 2), conv(40, 60, 5, 2)),
            F_R=nn.Sequential(*[res(80) for _ in range(6)]),
            **({"F_L": nn.Sequential(up(80, 40), up(40, 20), conv(20, 3, 5))} if last else {}),
            F_h=nn.Sequential(conv(80, 20, 3), res(20), conv(20, 20, 3)),
        )

    return named(rnncell0=cell(False), rnncell1=cell(True))


def run_ifi_rnn(net, clip):
    hidden, images = zeros(clip, 20, 4), []
    for frame in clip.unbind(1):
        for cell in (net.rnncell0, *[net.rnncell1] * 3):
            features = torch.cat([cell.F_B(frame), hidden], 1)
            for block in cell.F_R:
                features = features + block.main_branch(features)
            first, block, last = cell.F_h
            hidden = first(features)
            hidden = last(hidden + block.main_branch(hidden))
        images.append(cell.F_L(features))
    return torch.stack(images, 1)


def strcnn():
    blocks = [nn.Sequential(*[res(64, norm=True) for _ in range(4)]) for _ in range(2)]
    return named(
        encoder=named(
            m1=nn.Sequential(conv(15, 64, 5), nn.ReLU(), conv(64, 32, 3, 2), nn.ReLU()),
            m2=blocks[0],
        ),
        dtb=named(filter=nn.Conv2d(128, 64, 5)),
        decoder=named(
            m1=blocks[1],
            m2=nn.Sequential(nn.ConvTranspose2d(64, 64, 4, 2, 1), nn.ReLU(), conv(64, 3, 3)),
            f=nn.Sequential(conv(64, 32, 3), nn.ReLU()),
        ),
    )


def run_strcnn(net, clip):
    def trunk(blocks, x):
        for block in blocks:
            x = F.relu(x + block.main_branch(x))
        return x

    fed, blended, images = zeros(clip, 32, 2), zeros(clip, 64, 2), []
    for t in range(2, clip.shape[1] - 2):
        frames = clip[:, t - 2 : t + 3].flatten(1, 2)
        features = trunk(net.encoder.m2, torch.cat([net.encoder.m1(frames), fed], 1))
        weight = 2 * (torch.sigmoid(net.dtb.filter(torch.cat([features, blended], 1))) - 0.5).abs()
        weight = F.pad(weight.clamp(0, 1), (2, 2, 2, 2))
        blended = weight * features + (1 - weight) * blended
        latent = trunk(net.decoder.m1, blended)
        fed = net.decoder.f(latent)
        images.append(net.decoder.m2(latent))
    return torch.stack(images, 1)


def rdb(c, g):
    dense = nn.Sequential(*[named(conv=conv(c + i * g, g, 3)) for i in range(3)])
    return named(dense_layers=dense, conv1x1=conv(c + 3 * g, c, 1))


def run_rdb(block, x):
    grown = x
    for layer in block.dense_layers:
        grown = torch.cat([grown, F.gelu(layer.conv(grown))], 1)
    return x + block.conv1x1(grown)


def trunk(c, g, blocks):
    return named(
        RDBs=nn.ModuleList([rdb(c, g) for _ in range(blocks)]),
        conv1x1=conv(blocks * c, c, 1),
        conv3x3=conv(c, c, 3),
    )


def run_trunk(net, x):
    outputs = []
    for block in net.RDBs:
        x = run_rdb(block, x)
        outputs.append(x)
    return net.conv3x3(net.conv1x1(torch.cat(outputs, 1)))


def run_hidden(net, features):
    first, block, last = net
    return last(run_rdb(block, first(features)))


def estrnn(n=16, blocks=15, past=2, future=2):
    def down(c, g):
        return named(rdb=rdb(c, g), down_sampling=conv(c, 2 * c, 5, 2))

    f, frames = 5 * n, past + 1 + future
    return named(
        cell=named(
            F_B0=conv(3, n, 5),
            F_B1=down(n, n),
            F_B2=down(2 * n, int(n * 3 / 2)),
            F_R=trunk(f, 2 * n, blocks),
            F_h=nn.Sequential(conv(f, n, 3), rdb(n, n), conv(n, n, 3)),
        ),
        recons=named(model=nn.Sequential(up(frames * f, 2 * n), up(2 * n, n), conv(n, 3, 5))),
        fusion=named(
            F_f=nn.Sequential(nn.Linear(2 * f, 4 * f), nn.GELU(), nn.Linear(4 * f, 2 * f), nn.Sigmoid()),
            F_p=nn.Sequential(conv(2 * f, 4 * f, 1), conv(4 * f, 2 * f, 1)),
            condense=conv(2 * f, f, 1),
            fusion=conv(frames * f, frames * f, 1),
        ),
    )


def run_estrnn(net, clip, past=2, future=2):
    cell, gsa = net.cell, net.fusion

    def step(frame, hidden):
        x = cell.F_B0(frame)
        for stage in (cell.F_B1, cell.F_B2):
            x = stage.down_sampling(run_rdb(stage.rdb, x))
        features = run_trunk(cell.F_R, torch.cat([x, hidden], 1))
        return features, run_hidden(cell.F_h, features)

    def attend(window):
        fused = []
        for i, neighbour in enumerate(window):
            if i != past:
                pair = torch.cat([window[past], neighbour], 1)
                gate = gsa.F_f(pair.mean((2, 3)))[..., None, None]
                fused.append(gsa.condense(gate * gsa.F_p(pair)))
        return net.recons.model(gsa.fusion(torch.cat([*fused, window[past]], 1)))

    hidden, features = zeros(clip, cell.F_B0.out_channels, 4), []
    for frame in clip.unbind(1):
        f, hidden = step(frame, hidden)
        features.append(f)
    centres = range(past, len(features) - future)
    return torch.stack([attend(features[t - past : t + future + 1]) for t in centres], 1)


def mmp_rnn(n=16, blocks=7, head_blocks=8, past=2, future=2):
    def twice(i, o):
        layers = [conv(i, o, 3), nn.BatchNorm2d(o), nn.ReLU(), conv(o, o, 3), nn.BatchNorm2d(o), nn.ReLU()]
        return named(double_conv=nn.Sequential(*layers))

    def lower(i, o):
        return named(maxpool_conv=nn.Sequential(nn.MaxPool2d(2), twice(i, o)))

    def down(c, g, o):
        return named(rdb=rdb(c, g), down_sampling=conv(c, o, 5, 2))

    f, together = 5 * n, (past + 1 + future) * 5 * n
    prior = named(
        conv9x9=conv(3, 16, 9),
        inc=twice(16, 16),
        **{
            f"down{i}": lower(a, b) for i, (a, b) in enumerate([(16, 32), (32, 64), (64, 128), (128, 128)], 1)
        },
        **{
            f"up{i}": named(conv=twice(a, b))
            for i, (a, b) in enumerate([(256, 64), (128, 32), (64, 16), (32, 16)], 1)
        },
        refine=rdb(16, 8),
        outc=named(conv=conv(16, 1, 1)),
    )
    layers = [conv(together, together // 16, 1), nn.ReLU(), conv(together // 16, together, 1), nn.Sigmoid()]
    return named(
        cell=named(
            F_B0=conv(3, n, 5),
            MMAM1=named(MMAM_conv0=conv(1, n // 2, 1), MMAM_conv1=conv(n // 2, n, 1)),
            F_B1=down(n, n, 2 * n),
            F_B2=down(2 * n, int(n * 3 / 2), 2 * n),
            F_R=trunk(f, 2 * n, blocks),
            F_h=nn.Sequential(conv(f, n, 3), rdb(n, n), conv(n, n, 3)),
            prior=prior,
        ),
        recons=named(
            D_Net=trunk(f, 2 * n, head_blocks), model=nn.Sequential(up(f, 2 * n), up(2 * n, n), conv(n, 3, 5))
        ),
        fusion=named(fusion=conv(together, f, 1), ca=named(conv_du=nn.Sequential(*layers))),
    )


def run_mmp_net(net, frame):
    """Motion magnitude [N, 1, H, W]."""

    def run(block, x):
        for layer in block.double_conv:
            x = layer(x)
        return x

    x = run(net.inc, net.conv9x9(frame))
    levels = [x]
    for i in range(1, 5):
        x = run(net[f"down{i}"].maxpool_conv[1], F.max_pool2d(x, 2))
        levels.append(x)
    for i in range(1, 5):
        level = levels[4 - i]
        x = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=True)
        missing = [level.shape[d] - x.shape[d] for d in (3, 2)]
        x = F.pad(x, [part for m in missing for part in (m // 2, m - m // 2)])
        x = run(net[f"up{i}"].conv, torch.cat([level, x], 1))
    return torch.sigmoid(net.outc.conv(run_rdb(net.refine, x)))


def run_mmp_rnn(net, clip, past=2, future=2, attention=True):
    cell, n = net.cell, net.cell.F_B0.out_channels
    hidden, before, features = zeros(clip, n, 4), zeros(clip, 2 * n, 4), []
    for frame in clip.unbind(1):
        motion = run_mmp_net(cell.prior, frame)
        x = cell.F_B0(frame)
        x = x * (1 + cell.MMAM1.MMAM_conv1(F.leaky_relu(cell.MMAM1.MMAM_conv0(motion), 0.1)))
        for stage in (cell.F_B1, cell.F_B2):
            x = stage.down_sampling(run_rdb(stage.rdb, x))
        features.append(run_trunk(cell.F_R, torch.cat([x, before, hidden], 1)))
        hidden, before = run_hidden(cell.F_h, features[-1]), x
    images = []
    for t in range(past, len(features) - future):
        window = torch.cat(features[t - past : t + future + 1], 1)
        if attention:
            gate = window.mean((2, 3), keepdim=True)
            for layer in net.fusion.ca.conv_du:
                gate = layer(gate)
            window = window * gate
        x = run_trunk(net.recons.D_Net, net.fusion.fusion(window))
        for layer in net.recons.model:
            x = layer(x)
        images.append(x)
    return torch.stack(images, 1)


def stfan():
    def layer(i, o, kernel=3, stride=1):
        return nn.Sequential(conv(i, o, kernel, stride), nn.LeakyReLU(0.1))

    def upper(i, o):
        return nn.Sequential(nn.ConvTranspose2d(i, o, 4, 2, 1), nn.LeakyReLU(0.1))

    def block(c):
        return named(stem=nn.Sequential(conv(c, c, 3), nn.LeakyReLU(0.1), conv(c, c, 3)))

    def pyramid(prefix, i):
        parts = {}
        for stage, (a, b) in enumerate([(i, 32), (32, 64), (64, 128)], 1):
            parts[f"{prefix}{stage}_1"] = layer(a, b, stride=1 if stage == 1 else 2)
            parts |= {f"{prefix}{stage}_{j}": block(b) for j in (2, 3)}
        return parts

    def head(i):
        return nn.Sequential(layer(i, 128), block(128), block(128), layer(128, 3200, 1))

    return named(
        fea=layer(256, 128),
        **pyramid("conv", 3),
        upconv2_u=upper(256, 64),
        upconv2_2=block(64),
        upconv2_1=block(64),
        upconv1_u=upper(64, 32),
        upconv1_2=block(32),
        upconv1_1=block(32),
        img_prd=layer(32, 3),
        **pyramid("kconv", 9),
        fac_warp=head(128),
        kconv4=layer(3200, 128, 1),
        fac_deblur=head(256),
    )


def run_stfan(net, clip, clamp=True):
    def run(x, *parts):
        for part in parts:
            x = x + part.stem(x) if isinstance(part, nn.ModuleDict) else part(x)
        return x

    def pyramid(prefix, x):
        return run(x, *(net[f"{prefix}{stage}_{j}"] for stage in (1, 2, 3) for j in (1, 2, 3)))

    def filtered(x, kernels):
        n, c, height, width = x.shape
        taps = F.unfold(F.pad(x, (2, 2, 2, 2), mode="replicate"), 5).view(n, c, 25, height, width)
        return (taps * kernels.view(n, c, 25, height, width)).sum(2)

    last_frame = last_image = clip[:, 0]
    state, images = None, []
    for frame in clip.unbind(1):
        triple = pyramid("kconv", torch.cat([frame, last_frame, last_image], 1))
        align = run(triple, *net.fac_warp)
        deblur = run(torch.cat([triple, net.kconv4(align)], 1), *net.fac_deblur)
        encoded = pyramid("conv", frame)
        state = torch.cat([encoded, encoded], 1) if state is None else state
        state = torch.cat([filtered(encoded, deblur), filtered(net.fea(state), align)], 1)
        ups = [net[f"upconv{stage}_{part}"] for stage in (2, 1) for part in ("u", "2", "1")]
        image = run(state, *ups, net.img_prd) + frame
        images.append(image)
        last_frame, last_image = frame, image.clamp(0, 1) if clamp else image
    return torch.stack(images, 1)

"""The paper's numbers, to compare with ours; none of them was measured here.

They are from the tables of the RIRN paper on video deblurring. Only section 4.2 says that Table 1 is IRM against GSA on RDBN; its
caption and third row say ATB. Table 2 is ATB against DTB on IFI-RNN by its rows and the text; its caption says IRM. Times are for
one 1280x720 frame on an unnamed GPU, so only ratios can be compared.
"""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class Row:
    """A network's row of a table."""

    model: str
    """Name for :func:`rirn.create_model`."""
    scores: dict[str, tuple[float, float]]
    """PSNR in dB and SSIM by data set; empty for a network that the paper does not have."""
    seconds: float | None
    """Seconds per frame."""

    @property
    def base(self) -> str:
        """The network without an addition."""
        return self.model.partition("+")[0]


@dataclasses.dataclass(frozen=True)
class Table:
    """A table; rows whose name has a plus sign are compared with the row of their base."""

    title: str
    rows: tuple[Row, ...]
    controls: tuple[str, ...]
    """Networks that a fair comparison needs besides the paper's: the added layers without memory, one module alone, both."""

    @property
    def datasets(self) -> list[str]:
        return list(self.rows[0].scores)

    def all_rows(self, controls: bool) -> list[Row]:
        """Return the paper's rows, and with ``controls`` ours after those of the same base."""
        bases = dict.fromkeys(row.base for row in self.rows)
        ours = [Row(model, {}, None) for model in self.controls if controls]
        return [row for base in bases for row in (*self.rows, *ours) if row.base == base]


def _row(model: str, seconds: float, **scores: tuple[float, float]) -> Row:
    return Row(model, scores, seconds)


TABLES = {
    1: Table(
        "IRM against GSA on RDBN",
        (
            _row("rdbn", 0.095, GOPRO=(29.82, 0.9043), REDS=(32.29, 0.9222)),
            _row("rdbn+gsa", 0.170, GOPRO=(30.10, 0.9064), REDS=(32.52, 0.9233)),
            _row("rdbn+irm", 0.161, GOPRO=(30.14, 0.9072), REDS=(32.59, 0.9304)),
        ),
        controls=("rdbn+control", "rdbn+atb", "rdbn+rirn"),
    ),
    2: Table(
        "ATB against DTB on IFI-RNN",
        (
            _row("ifi-rnn", 0.049, GOPRO=(28.30, 0.8668), REDS=(30.01, 0.8762)),
            _row("ifi-rnn+dtb", 0.059, GOPRO=(28.31, 0.8697), REDS=(30.12, 0.8763)),
            _row("ifi-rnn+atb", 0.065, GOPRO=(28.65, 0.8779), REDS=(30.61, 0.8800)),
        ),
        controls=("ifi-rnn+control", "ifi-rnn+irm", "ifi-rnn+rirn"),
    ),
    3: Table(
        "RIRN on six networks",
        tuple(
            _row(model, 1 / fps, DVD=dvd, GOPRO=gopro, REDS=reds)
            for model, dvd, gopro, reds, fps in (
                ("ifi-rnn", (30.53, 0.9069), (28.30, 0.8668), (30.01, 0.8762), 20.15),
                ("ifi-rnn+rirn", (30.97, 0.9168), (29.14, 0.8894), (31.08, 0.8905), 12.48),
                ("strcnn", (29.15, 0.8728), (28.72, 0.8460), (30.23, 0.8708), 7.69),
                ("strcnn+rirn", (30.17, 0.9019), (28.87, 0.8781), (30.76, 0.8902), 5.94),
                ("stfan", (30.93, 0.9087), (28.77, 0.8776), (31.26, 0.8864), 6.66),
                ("stfan+rirn", (31.03, 0.9096), (29.24, 0.8876), (31.44, 0.8951), 4.42),
                ("rdbn", (31.44, 0.9188), (29.82, 0.9043), (32.29, 0.9222), 10.50),
                ("rdbn+rirn", (31.83, 0.9227), (30.17, 0.9120), (32.71, 0.9322), 8.53),
                ("gru", (27.53, 0.8335), (25.11, 0.7890), (26.69, 0.7956), 22.24),
                ("gru+rirn", (28.58, 0.8773), (26.36, 0.8217), (28.60, 0.8428), 20.94),
                ("lstm", (26.94, 0.8365), (25.22, 0.7948), (26.87, 0.8046), 19.14),
                ("lstm+rirn", (29.16, 0.8813), (27.24, 0.8400), (29.12, 0.8584), 16.90),
            )
        ),
        controls=tuple(f"{base}+control" for base in ("ifi-rnn", "strcnn", "stfan", "rdbn", "gru", "lstm")),
    ),
}


def time_ratio(model: str) -> float | None:
    """Time of a frame of a network with an addition, relative to its base network, in the paper; None if the paper has none.

    Both are from the first table that has the network, since the tables give different times for the same network.
    """
    for table in TABLES.values():
        seconds = {row.model: row.seconds for row in table.rows}
        if model in seconds:
            return seconds[model] / seconds[model.partition("+")[0]]
    return None

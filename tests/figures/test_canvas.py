"""What figures have in common."""

import pytest

from rirn.figures.canvas import show_legend


def test_legend_has_one_entry_for_each_kind_and_style():
    plt = pytest.importorskip("matplotlib.pyplot")
    figure, _ = plt.subplots(layout="constrained")
    show_legend(plt, figure, {"ifi-rnn": "red", "ifi-rnn+rirn": "blue"}, {"no past": "--"})
    (legend,) = figure.legends
    lines = {text.get_text(): line for text, line in zip(legend.get_texts(), legend.get_lines(), strict=True)}
    plt.close(figure)
    assert {label: (line.get_color(), line.get_linestyle()) for label, line in lines.items()} == {
        "ifi-rnn": ("red", "-"),
        "ifi-rnn+rirn": ("blue", "-"),
        "no past": ("black", "--"),
    }

"""The paper's figures for any trained model: pictures, and the numbers behind them; docs/figures.md explains each."""

FIGURES = ("3", "4", "5", "6", "7", "8", "9", "10", "reach", "cut")
"""All figures, by their names on the command line."""

"""The paper's figures for any trained model: pictures, and the numbers behind them; docs/figures.md says what each shows."""

FIGURES = ("3", "4", "5", "6", "7", "8", "9", "10", "reach", "cut")
"""All that can be drawn, by the names that the command line takes."""

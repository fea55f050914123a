"""The paper's figures for any trained model: pictures, and the numbers behind them; docs/figures.md says what each shows."""

"""Damaged and hostile input for everything that reads what others made: ``python -m tests.fuzz``, see docs/robustness.md."""

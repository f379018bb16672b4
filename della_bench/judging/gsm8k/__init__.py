"""GSM8K: each answer correct or wrong, by a model that sees the reference solution, or by its final number."""

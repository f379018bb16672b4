"""From specs to scores: evaluate, score and judge, step by step, going on where an earlier run ended."""

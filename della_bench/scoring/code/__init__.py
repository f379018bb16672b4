"""MBPP and HumanEval: prompts, programs in replies, verdicts, scores."""

"""AlpacaEval: the answers of lm-eval's task to alpaca_eval, asked through our own client, and back to a score."""

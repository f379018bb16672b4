"""Judges: models, or rules, that say how good an answer is; asked once, cached, priced."""

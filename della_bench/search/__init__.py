"""The best merge of a space: proposed by Optuna, raced on search items, chosen on others, tested on others again."""

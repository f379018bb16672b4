"""Compiled implementations of the merge of one tensor; each equals the reference bit for bit. `dispatch` chooses."""

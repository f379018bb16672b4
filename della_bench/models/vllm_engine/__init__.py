"""What runs inside vLLM's processes: the loader of merges, the workers' part of a remerge, and what they share.

Nothing here is imported before vLLM is in use.
"""

"""Scoring answers: programs are run in a sandbox, and what they did becomes a number."""

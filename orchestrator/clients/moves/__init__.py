"""Moves of our own, and what is looked at while they run."""

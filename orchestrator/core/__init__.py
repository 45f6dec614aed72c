"""Desired state, observed state, and the plan between them. Pure: no I/O, no clock, no sleep."""

"""A scale-out that has not happened yet: its worth, time, cost and connections. Pure."""

"""Moving shard groups: what it costs, which way, how many at once, and the way back. Pure."""

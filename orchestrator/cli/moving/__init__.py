"""The verbs that move data, and what every verb that moves shares: options, preflight, guard, checks."""

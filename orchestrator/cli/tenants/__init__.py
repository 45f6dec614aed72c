"""The verbs on single tenants: which are hot, and one brought to a node of its own."""

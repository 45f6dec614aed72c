"""The verbs on a whole cluster: status, plan, preflight, apply, scale-out."""

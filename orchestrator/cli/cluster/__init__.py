"""The verbs on a whole cluster: status, plan, apply, scale-out."""

"""The verbs on the cluster on this machine."""

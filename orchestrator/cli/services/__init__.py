"""The verbs for who writes a service: connection, lint."""

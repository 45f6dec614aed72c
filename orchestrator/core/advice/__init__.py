"""The advice whether a database belongs on a flexible server or on an elastic cluster. Pure."""

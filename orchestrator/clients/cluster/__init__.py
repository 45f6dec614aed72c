"""The database as a whole, read and changed through the coordinator."""

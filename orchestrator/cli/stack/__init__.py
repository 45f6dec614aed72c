"""The stack file: found, read, checked and changed, and the services that it declares."""

"""From what is desired and what was observed to the steps in between. Pure."""

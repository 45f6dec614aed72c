"""What is looked at before, during and after a change, and what is wrong with it. Pure."""

"""What a stack file says. Data, with the rules that one file alone can break."""

"""An elastic cluster on this machine. Nothing outside the lab and its verbs imports this package."""

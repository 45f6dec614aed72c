"""observe() and apply(): what to ask of the control plane and the database, and in which order. Never sleeps."""

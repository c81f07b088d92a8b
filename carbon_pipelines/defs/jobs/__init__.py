"""Jobs that people start: each shows its plan, and does it only if it is told to."""

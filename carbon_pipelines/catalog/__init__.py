"""Which tables we capture and what we promise about each: pure values, no services."""

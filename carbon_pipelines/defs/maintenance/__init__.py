"""The maintenance stage's assets."""

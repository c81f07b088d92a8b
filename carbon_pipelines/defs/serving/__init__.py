"""The serving stage's assets."""

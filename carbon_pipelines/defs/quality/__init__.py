"""The quality stage's assets."""

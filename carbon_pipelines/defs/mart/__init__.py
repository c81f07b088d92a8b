"""The mart stage's assets."""

"""Comparing what the lake shows with what the source holds."""

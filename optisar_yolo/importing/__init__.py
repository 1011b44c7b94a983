"""Weights of others, read without running anything in their files."""

"""Checks and statistics of a written data set."""

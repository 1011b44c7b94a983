"""Splitting the samples and writing them in the released layout."""

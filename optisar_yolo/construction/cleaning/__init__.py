"""Dropping what cannot be right, unifying categories and their words."""

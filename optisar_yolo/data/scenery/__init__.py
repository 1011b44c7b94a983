"""Procedural optical and SAR scenes with labelled objects."""

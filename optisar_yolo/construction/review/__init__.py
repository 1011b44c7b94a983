"""Deciding on flagged objects in the browser or in other tools."""

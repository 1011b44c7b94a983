"""Copies of pictures with rare objects, their captions rewritten and verified."""

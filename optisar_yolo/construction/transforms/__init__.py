"""Copies of images with rare objects, their captions rewritten and verified."""

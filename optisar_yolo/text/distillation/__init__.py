"""Distillation of the pocket text encoder from a sentence-transformers teacher."""

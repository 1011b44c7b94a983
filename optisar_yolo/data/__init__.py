"""Data cards, annotations, pictures and prompts."""

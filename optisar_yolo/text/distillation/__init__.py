"""Making the small text encoder: a student of a larger one, taught on generated and real expressions."""

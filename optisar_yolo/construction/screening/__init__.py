"""Flagging boxes that a detector trained on the other pictures does not find."""

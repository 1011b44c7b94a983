"""Flagging boxes that a detector trained on the other images does not find."""

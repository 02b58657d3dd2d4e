"""Programs that show trtserve at work."""

"""A walk through the main job, over HTTP, at a real authorization server."""

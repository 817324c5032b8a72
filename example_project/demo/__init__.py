"""A demo of the main use case, over HTTP and with a real authorization server."""

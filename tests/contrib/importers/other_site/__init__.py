"""A site that has signed its users in with another package so far, and now takes oauth_connect."""

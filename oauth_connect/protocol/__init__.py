"""OAuth 2.0 as its RFCs have it, without Django: usable by a script that has no settings."""

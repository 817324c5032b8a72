"""OAuth 2.0 as its RFCs define it, without Django. A script without settings can use it."""

"""The operations on a connection: connect, access, disconnect, revoke, and their history."""

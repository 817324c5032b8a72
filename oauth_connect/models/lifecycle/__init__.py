"""What happens to a connection: connect, access, disconnect, revoke, and the records of it."""

"""Where a token lives. A database row is handed in; nothing here imports a model."""

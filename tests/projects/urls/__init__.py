"""The URLs of the projects."""

"""Codeyard as a provider of django-allauth."""

"""Measures of texts and of policies: pure functions, no models."""

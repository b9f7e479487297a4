"""Measurements of the product; each prints how it was measured."""

"""The trainer: Direct Preference Optimization on a run directory (`python -m training.core`), no web app."""

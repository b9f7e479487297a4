"""The trainer: Direct Preference Optimization on a run directory, without the web app (`python -m training.core`)."""

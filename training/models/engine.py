from django.db import models


class EngineServer(models.Model):
    """A vLLM server: the managed one writes its state here, so that every page can show it."""

    class State(models.TextChoices):
        STOPPED = "stopped", "Stopped"
        STARTING = "starting", "Starting"
        WARMING = "warming", "Warming up"
        READY = "ready", "Ready"
        FAILED = "failed", "Failed"

    url = models.CharField(max_length=300, unique=True)
    managed = models.BooleanField(default=True, help_text="Started by us; otherwise one of VLLM_URLS.")
    state = models.CharField(max_length=10, choices=State.choices, default=State.STOPPED)
    base_model = models.CharField(max_length=500, blank=True, help_text="What it serves, or is about to.")
    wanted_base_model = models.CharField(max_length=500, blank=True, help_text="What the next job needs.")
    wanted_by = models.CharField(max_length=120, blank=True, help_text="The study that needs it.")
    pid = models.PositiveIntegerField(null=True, blank=True)
    detail = models.TextField(blank=True)
    since = models.DateTimeField(null=True, blank=True)
    heartbeat_at = models.DateTimeField(null=True, blank=True)

    def __str__(self) -> str:
        return f"{self.url} ({self.state})"

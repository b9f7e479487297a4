"""What a person can mend: one sentence each, naming the thing, the value and the remedy."""


class TrainingError(Exception):
    """A cause that ends a run; its text is shown to people as it is."""


class ConfigError(TrainingError, ValueError):
    """A setting in config.json that is unknown, contradictory or out of range."""


class RunStoppedError(TrainingError):
    """The run was asked to stop (SIGTERM) and did so between two steps."""


class ExampleError(Exception):
    """An example that cannot be trained on; it goes to the receipt and the run goes on."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail

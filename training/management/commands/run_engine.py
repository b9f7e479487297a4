import logging
import signal
import threading
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.db import close_old_connections

from training.services.engine_servers import ManagedServer
from training.serving.manager import EngineManager

logger = logging.getLogger(__name__)


class Command(BaseCommand):
    help = "Keep one vLLM server running on the base model that is needed, until stopped."

    def handle(self, *args: Any, **options: Any) -> None:
        if settings.VLLM_URLS:
            raise CommandError("VLLM_URLS names your own servers; unset it to have one managed here.")
        stopping = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stopping.set())
        server = ManagedServer()
        manager = EngineManager(desired_base=server.desired_base, report=server.report)

        def asked_to_stop() -> bool:
            close_old_connections()
            return stopping.is_set()

        manager.run(stopping=asked_to_stop)

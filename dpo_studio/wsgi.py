"""WSGI entry point of the web process (it imports no torch, transformers, peft or vllm)."""

import os

from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "dpo_studio.settings")
application = get_wsgi_application()

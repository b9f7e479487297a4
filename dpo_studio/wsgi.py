"""WSGI entry point of the web process (it imports no torch, transformers, peft or vllm)."""

import os

from django.core.wsgi import get_wsgi_application

# The matrices of a page are small: threads of BLAS would double its processor time and gain it nothing.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "dpo_studio.settings")
application = get_wsgi_application()

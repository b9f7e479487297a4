"""WSGI entry point of the web process (it imports no torch, transformers, peft or vllm)."""

import gc
import os
from importlib import import_module

from django.core.wsgi import get_wsgi_application

# The matrices of a page are small: threads of BLAS would double its processor time and gain it nothing.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "dpo_studio.settings")
application = get_wsgi_application()

# The views, with all that they import, now and not within the first request.
import_module("dpo_studio.urls")
# What is loaded stays until the process ends: no garbage collection need go through it again. One in four
# pages had one, which took as long as half a page.
gc.collect()
gc.freeze()

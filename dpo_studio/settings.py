"""Every setting, read from the environment with types; docs/operations.md lists the variables."""

from pathlib import Path

from csp.constants import NONE, SELF
from environs import Env

from dpo_studio.secret import ensure_secret_key

env = Env()

BASE_DIR = Path(__file__).resolve().parent.parent

# Everything made at run time lives below STUDIO_HOME.
STUDIO_HOME: Path = Path(env.str("STUDIO_HOME", "") or BASE_DIR / "var").resolve()
STUDIO_HOME.mkdir(parents=True, exist_ok=True)
STUDIO_MODELS: Path = Path(env.str("STUDIO_MODELS", "") or STUDIO_HOME / "models").resolve()


SECRET_KEY: str = env.str("SECRET_KEY", "") or ensure_secret_key(STUDIO_HOME)
DEBUG: bool = env.bool("DEBUG", False)
ALLOWED_HOSTS: list[str] = env.list("ALLOWED_HOSTS", ["localhost", "127.0.0.1", "[::1]"])
CSRF_TRUSTED_ORIGINS: list[str] = env.list("CSRF_TRUSTED_ORIGINS", [])
HTTPS: bool = env.bool("HTTPS", False)

# The demo study with its one-click login, which answers loopback requests only.
DEMO: bool = env.bool("DEMO", False)

INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "whitenoise.runserver_nostatic",
    "django.contrib.staticfiles",
    "django_htmx",
    "django_rq",
    "axes",
    "csp",
    "annotate",
    "training",
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "annotate.gate.taking_turns",
    "csp.middleware.CSPMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.auth.middleware.LoginRequiredMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
    "axes.middleware.AxesMiddleware",
]

ROOT_URLCONF = "dpo_studio.urls"
WSGI_APPLICATION = "dpo_studio.wsgi.application"

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": False,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "dpo_studio.context.studio",
            ],
            "loaders": ["django.template.loaders.filesystem.Loader"]
            if DEBUG
            else [("django.template.loaders.cached.Loader", ["django.template.loaders.filesystem.Loader"])],
        },
    },
]

# Database: SQLite in STUDIO_HOME, or PostgreSQL by DATABASE_URL. Never one transaction per request: services
# open their own, short ones. IMMEDIATE makes SQLite take the write lock at BEGIN, so that compare-and-swap
# never deadlocks.
# FULL: a label that was answered survives a power cut. NORMAL: it survives the end of any process, but a
# power cut takes what came since the last checkpoint, a few megabytes of writes.
SQLITE_SYNCHRONOUS: str = env.str("SQLITE_SYNCHRONOUS", "FULL").upper()
if SQLITE_SYNCHRONOUS not in ("FULL", "NORMAL"):
    raise ValueError(
        f"SQLITE_SYNCHRONOUS = {SQLITE_SYNCHRONOUS!r} is not known; use FULL (the default) or NORMAL"
    )
SQLITE_OPTIONS = {
    "transaction_mode": "IMMEDIATE",
    "timeout": 20,
    "init_command": (
        f"PRAGMA journal_mode=WAL; PRAGMA synchronous={SQLITE_SYNCHRONOUS}; PRAGMA cache_size=-65536;"
    ),
}
DATABASES = {"default": env.dj_db_url("DATABASE_URL", f"sqlite:///{STUDIO_HOME / 'studio.sqlite3'}")}
DATABASES["default"]["ATOMIC_REQUESTS"] = False
# Opening SQLite and reading its tables anew costs as much as a third of a label does.
DATABASES["default"]["CONN_MAX_AGE"] = 60
if DATABASES["default"]["ENGINE"].endswith("sqlite3"):
    DATABASES["default"]["OPTIONS"] = SQLITE_OPTIONS
else:
    DATABASES["default"]["CONN_HEALTH_CHECKS"] = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# Queues: Valkey on a socket in STUDIO_HOME, or any Valkey/Redis by REDIS_URL.
REDIS_URL: str = env.str("REDIS_URL", "") or f"unix://{STUDIO_HOME / 'run' / 'valkey.sock'}"
RQ_QUEUES = {
    "sampling": {"URL": REDIS_URL, "DEFAULT_TIMEOUT": -1},
    "training": {"URL": REDIS_URL, "DEFAULT_TIMEOUT": -1},
}
RQ = {"SERIALIZER": "rq.serializers.JSONSerializer"}

# Engines: the managed vLLM server, or your own by VLLM_URLS (comma separated).
VLLM_URLS: list[str] = env.list("VLLM_URLS", [])
SAMPLING_CONCURRENCY: int = env.int("SAMPLING_CONCURRENCY", 32)
# What starts `training.core`: the interpreter by default, or for example "torchrun --nproc-per-node 8".
TRAIN_LAUNCHER: str = env.str("TRAIN_LAUNCHER", "")

AUTH_USER_MODEL = "annotate.User"
AUTHENTICATION_BACKENDS = [
    "axes.backends.AxesStandaloneBackend",
    "annotate.signed_in.AccountBackend",
]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 10}},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]
LOGIN_URL = "login"
LOGIN_REDIRECT_URL = "home"
LOGOUT_REDIRECT_URL = "login"
AXES_FAILURE_LIMIT = 5
AXES_COOLOFF_TIME = 0.25
AXES_LOCKOUT_PARAMETERS = [["username", "ip_address"]]
AXES_LOCKOUT_TEMPLATE = "annotate/login_locked.html"
AXES_RESET_ON_SUCCESS = True
AXES_VERBOSE = False

SESSION_ENGINE = "annotate.signed_in"
SESSION_COOKIE_AGE = 14 * 24 * 3600
SESSION_COOKIE_SAMESITE = "Lax"
SESSION_COOKIE_SECURE = HTTPS
CSRF_COOKIE_SECURE = HTTPS
SECURE_SSL_REDIRECT = HTTPS
SECURE_HSTS_SECONDS = 31536000 if HTTPS else 0
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if HTTPS else None
SECURE_REFERRER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"

CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": [NONE],
        "script-src": [SELF],
        "style-src": [SELF],
        "img-src": [SELF],
        "font-src": [SELF],
        "connect-src": [SELF],
        "form-action": [SELF],
        "frame-ancestors": [NONE],
        "base-uri": [NONE],
        "manifest-src": [SELF],
    },
}

LANGUAGE_CODE = "en-gb"
TIME_ZONE = env.str("TIME_ZONE", "UTC")
USE_I18N = False
USE_TZ = True

STATIC_URL = "static/"
STATICFILES_DIRS = [BASE_DIR / "static"]
# Served from static/ as it is, revalidated after a minute: no collecting step, and an upgrade shows at once.
WHITENOISE_USE_FINDERS = True
WHITENOISE_MAX_AGE = 0 if DEBUG else 60

# Imports are streamed; a single upload is capped so that a slip cannot fill the disk.
MAX_PROMPT_FILE_BYTES: int = env.int("MAX_PROMPT_FILE_MB", 200) * 1024 * 1024
FILE_UPLOAD_TEMP_DIR = None
DATA_UPLOAD_MAX_MEMORY_SIZE = 5 * 1024 * 1024

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "%(asctime)s %(levelname)s %(name)s %(message)s"}},
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "line"}},
    "root": {"handlers": ["console"], "level": env.str("LOG_LEVEL", "INFO")},
    "loggers": {"httpx": {"level": "WARNING"}, "axes": {"level": "WARNING"}},
}
SILENCED_SYSTEM_CHECKS: list[str] = []

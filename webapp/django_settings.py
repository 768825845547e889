"""Django's settings, all derived from webapp/settings.py; nothing is read from the environment here."""

from __future__ import annotations

import hashlib
import secrets
import warnings
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from market.interval import STORED_INTERVALS
from runtime.database import KEEPALIVE, parse_url
from runtime.settings import load
from webapp.settings import WebappSettings

ROOM = load(WebappSettings)
ROOT = Path(__file__).resolve().parent.parent
PAGES = ROOT / "webapp" / "pages"
READ_TIMEOUT_MS = 5_000
MIGRATE_TIMEOUT_MS = 120_000
#: A query that one connection is asked so often is prepared there.
PREPARE_AFTER = 5
YEAR_S = 365 * 24 * 3600

DEBUG = False
SECRET_KEY = ROOM.secret_key or secrets.token_urlsafe(50)
ALLOWED_HOSTS = ROOM.allowed_hosts()
ROOT_URLCONF = "webapp.urls"
WSGI_APPLICATION = "webapp.wsgi.application"
INSTALLED_APPS = ["django.contrib.staticfiles", "rest_framework", "drf_spectacular", "webapp"]
MIDDLEWARE = [
    "webapp.middleware.RequestMetrics",
    "webapp.middleware.SecurityHeaders",
    "webapp.api.cors.Cors",
    "webapp.api.compression.Compression",
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.middleware.http.ConditionalGetMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "webapp.middleware.ApiErrors",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [PAGES / "templates", ROOT / "webapp" / "api" / "templates"],
        "OPTIONS": {"context_processors": ["webapp.context.site"]},
    }
]


def _database(url: str, options: str, **driver: object) -> dict[str, object]:
    """A libpq URL as Django wants it; a connection lives as long as its thread (apps.py drops a lost one)."""
    parts = parse_url(url)
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": parts.pop("dbname", ""),
        "USER": parts.pop("user", ""),
        "PASSWORD": parts.pop("password", ""),
        "HOST": parts.pop("host", ""),
        "PORT": parts.pop("port", ""),
        "OPTIONS": {
            **KEEPALIVE,
            **parts,
            "application_name": "webapp",
            "connect_timeout": 3,
            "options": options,
            **driver,
        },
        "CONN_MAX_AGE": None,
        "DISABLE_SERVER_SIDE_CURSORS": True,
    }


#: default: the owner, for migrations alone. reader: everything that answers a request; it cannot write.
DATABASES = {
    "default": _database(ROOM.database_url, f"-c statement_timeout={MIGRATE_TIMEOUT_MS} -c lock_timeout=10000"),
    "reader": _database(
        ROOM.analyst_database_url or ROOM.database_url,
        # Queries of one transaction see one snapshot; single queries are their own.
        f"-c statement_timeout={READ_TIMEOUT_MS} -c default_transaction_read_only=on "
        # A plan for any values would read whole tables where a symbol or a range may be left out.
        "-c default_transaction_isolation=repeatable\\ read -c plan_cache_mode=force_custom_plan",
        # A text that is sent once is parsed once.
        server_side_binding=True,
        prepare_threshold=PREPARE_AFTER,
    ),
}
STATEMENT_TIMEOUT_MS = {"default": MIGRATE_TIMEOUT_MS, "reader": READ_TIMEOUT_MS}
DATABASE_ROUTERS = ["webapp.router.ReadersRead"]
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
USE_TZ = True
TIME_ZONE = "UTC"
USE_I18N = False


def _static_version() -> str:
    """Changes with the content of our own static files and the version of what is installed."""
    digest = hashlib.sha256()
    for path in (*sorted((PAGES / "static").rglob("*")), ROOT / "package-lock.json"):
        if path.is_file():
            digest.update(str(path.relative_to(ROOT)).encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:12]


try:
    APP_VERSION = version("candlewire")
except PackageNotFoundError:
    APP_VERSION = "unversioned"

# Files keep their names under a path that changes with their content: ES modules import each other by relative
# path, and browsers may keep everything for ever.
STATIC_URL = f"/static/{_static_version()}/"
STATIC_ROOT = ROOT / "staticfiles"
_VENDOR = {
    "vendor/lightweight-charts": ROOT / "node_modules" / "lightweight-charts" / "dist",
    "vendor/uplot": ROOT / "node_modules" / "uplot" / "dist",
    "vendor/inter": ROOT / "node_modules" / "@fontsource-variable" / "inter" / "files",
}
STATICFILES_DIRS: list[Path | tuple[str, Path]] = [
    *([PAGES / "static"] if (PAGES / "static").is_dir() else []),
    *((prefix, path) for prefix, path in _VENDOR.items() if path.is_dir()),
]
STATICFILES_FINDERS = ["django.contrib.staticfiles.finders.FileSystemFinder"]
warnings.filterwarnings("ignore", message="No directory at", category=UserWarning)
# A checkout serves its sources, whatever an earlier collectstatic left; the image drops them after collecting.
WHITENOISE_USE_FINDERS = (ROOT / "node_modules").is_dir()
WHITENOISE_IMMUTABLE_FILE_TEST = r"^/static/"
WHITENOISE_MAX_AGE = YEAR_S
WHITENOISE_ALLOW_ALL_ORIGINS = False

X_FRAME_OPTIONS = "DENY"
SECURE_CONTENT_TYPE_NOSNIFF = True
SECURE_REFERRER_POLICY = "same-origin"
SECURE_SSL_REDIRECT = ROOM.web_https
SECURE_HSTS_SECONDS = YEAR_S if ROOM.web_https else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS = ROOM.web_https
SECURE_HSTS_PRELOAD = ROOM.web_https
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if ROOM.web_https else None
CSRF_COOKIE_SECURE = ROOM.web_https
CSRF_COOKIE_SAMESITE = "Strict"
CSRF_TRUSTED_ORIGINS = [f"https://{host}" for host in ALLOWED_HOSTS] if ROOM.web_https else []

LOGGING_CONFIG = None

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [],
    "DEFAULT_PERMISSION_CLASSES": [],
    "UNAUTHENTICATED_USER": None,
    # `format` is a parameter of the export alone.
    "URL_FORMAT_OVERRIDE": None,
    "DEFAULT_PARSER_CLASSES": ["rest_framework.parsers.JSONParser"],
    "DEFAULT_RENDERER_CLASSES": ["webapp.api.native.rendering.JsonRenderer"],
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "EXCEPTION_HANDLER": "webapp.api.native.problems.handle",
}
SPECTACULAR_SETTINGS = {
    "TITLE": "Candlewire",
    "VERSION": APP_VERSION,
    "OAS_VERSION": "3.1.1",
    "SERVE_INCLUDE_SCHEMA": False,
    "DESCRIPTION": "Market data in Binance's dialect (/api/v3), TradingView's (/udf) and our own (/api/v1). "
    "The messages of the live WebSocket are described in docs/LIVE.md. "
    "Weight per address and minute is limited (API_WEIGHT_PER_MINUTE); 429 says in Retry-After when to come again.",
    "ENUM_NAME_OVERRIDES": {"StoredIntervalEnum": [interval.value for interval in STORED_INTERVALS]},
    "POSTPROCESSING_HOOKS": [
        "drf_spectacular.hooks.postprocess_schema_enums",
        "webapp.api.native.examples.add_native_examples",
        "webapp.api.binance.schema.add_binance_paths",
        "webapp.api.udf.schema.add_udf_paths",
    ],
}

"""Superset in the cluster. Everything secret comes from the environment."""

import os
from typing import ClassVar

VALKEY = os.environ["VALKEY_URL"]

SECRET_KEY = os.environ["SUPERSET_SECRET_KEY"]
SQLALCHEMY_DATABASE_URI = os.environ["DATABASE_URL"]
SQLALCHEMY_ENGINE_OPTIONS = {"pool_size": 5, "max_overflow": 5, "pool_pre_ping": True}

# Behind the tunnel or an ingress.
ENABLE_PROXY_FIX = True
SESSION_COOKIE_SECURE = True
SESSION_COOKIE_SAMESITE = "Lax"
WTF_CSRF_ENABLED = True
PREVENT_UNSAFE_DB_CONNECTIONS = True
PUBLIC_ROLE_LIKE = None


def _cache(prefix: str, seconds: int) -> dict:
    return {
        "CACHE_TYPE": "RedisCache",
        "CACHE_DEFAULT_TIMEOUT": seconds,
        "CACHE_KEY_PREFIX": prefix,
        "CACHE_REDIS_URL": f"{VALKEY}/1",
    }


# What a chart shows is refreshed when a mart was certified; a day is the longest it may be older.
CACHE_CONFIG = _cache("superset_", 86_400)
DATA_CACHE_CONFIG = _cache("superset_data_", 86_400)
FILTER_STATE_CACHE_CONFIG = _cache("superset_filter_", 7 * 86_400)
EXPLORE_FORM_DATA_CACHE_CONFIG = _cache("superset_explore_", 7 * 86_400)
RATELIMIT_STORAGE_URI = f"{VALKEY}/2"


class CeleryConfig:
    """Queries of SQL Lab and reports, in the workers."""

    broker_url = f"{VALKEY}/0"
    result_backend = f"{VALKEY}/0"
    imports = ("superset.sql_lab", "superset.tasks.scheduler", "superset.tasks.cache")
    worker_prefetch_multiplier = 1
    task_acks_late = True
    broker_connection_retry_on_startup = True
    result_expires = 86_400
    beat_schedule: ClassVar[dict] = {
        "reports.scheduler": {"task": "reports.scheduler", "schedule": 60.0},
        "reports.prune_log": {"task": "reports.prune_log", "schedule": 86_400.0},
    }


CELERY_CONFIG = CeleryConfig

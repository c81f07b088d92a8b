"""Clients of S3, one for each way to reach one.

What belongs here: making a client, and sharing it in the process: to make one takes a fifth of a
CPU-second, as long as most of what is asked of it. What does not: what is asked (``storage.py``).
"""

import threading
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

CONNECTIONS = 8
"""Requests of one client at the same time."""
_MOST_CLIENTS = 16

_clients: OrderedDict[tuple[tuple[str, str], ...], Any] = OrderedDict()
_lock = threading.Lock()


def shared_client(properties: Mapping[str, Any]) -> Any:
    """The client for the ``s3.*`` of a FileIO's properties; safe for several threads."""
    settings = {
        name.removeprefix("s3."): str(value)
        for name, value in properties.items()
        if name.startswith("s3.")
    }
    key = tuple(sorted(settings.items()))
    with _lock:
        if key not in _clients:
            _clients[key] = _connected(settings)
        _clients.move_to_end(key)
        while len(_clients) > _MOST_CLIENTS:
            _clients.popitem(last=False)
        return _clients[key]


def _connected(settings: Mapping[str, str]) -> Any:
    from botocore.config import Config
    from botocore.session import Session

    virtual = settings.get("force-virtual-addressing", "true").lower() == "true"
    config = Config(
        connect_timeout=float(settings.get("connect-timeout", 5)),
        read_timeout=float(settings.get("request-timeout", 60)),
        retries={"mode": "standard", "max_attempts": 5},
        max_pool_connections=CONNECTIONS,
        s3={"addressing_style": "virtual" if virtual else "path"},
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
    )
    return Session().create_client(
        "s3",
        region_name=settings.get("region"),
        endpoint_url=settings.get("endpoint"),
        aws_access_key_id=settings.get("access-key-id"),
        aws_secret_access_key=settings.get("secret-access-key"),
        aws_session_token=settings.get("session-token"),
        config=config,
    )

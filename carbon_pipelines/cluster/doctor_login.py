"""What an edge logs in with, from its Secret.

What belongs here: the names that operators and charts give to the same things. What does not:
reading a Secret (``doctor_kubectl.py``).
"""

from collections.abc import Mapping

from carbon_pipelines.cluster.doctor_case import Login

_USER = (
    "username", "user", "accesskey", "access-key", "access_key", "AWS_ACCESS_KEY_ID",
    "rootUser", "client_id", "client-id",
)  # fmt: skip
_PASSWORD = (
    "password", "secretkey", "secret-key", "secret_key", "AWS_SECRET_ACCESS_KEY", "rootPassword",
    "client_secret", "client-secret", "redis-password", "valkey-password",
)  # fmt: skip
_MORE = {
    "token": ("token",),
    "database": ("dbname", "database"),
    "mechanism": ("sasl.mechanism", "mechanism"),
    "scope": ("scope",),
    "region": ("region", "AWS_REGION"),
    "certificate": ("user.crt", "tls.crt"),
    "key": ("user.key", "tls.key"),
}


def make_login(secret: Mapping[str, str], *, account: str = "", ca: str = "") -> Login:
    """A login from a Secret's text by key; what it does not say is left out.

    Args:
        secret: As operators (CloudNativePG, Strimzi, External Secrets) and charts write it.
        account: Who we are where the Secret does not say it.
        ca: An authority for the server's certificate; else the Secret's own ``ca.crt``.
    """
    return Login(
        user=_first(secret, _USER) or account,
        password=_first(secret, _PASSWORD),
        more={name: found for name, keys in _MORE.items() if (found := _first(secret, keys))},
        ca=ca or secret.get("ca.crt", ""),
    )


def _first(secret: Mapping[str, str], names: tuple[str, ...]) -> str:
    return next((secret[name] for name in names if secret.get(name)), "")

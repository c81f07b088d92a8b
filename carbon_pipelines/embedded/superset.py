"""Superset as a local process, on request: what people look at, on this machine.

What belongs here: its settings, its server and its one user. What does not: installing it
(``superset_install.py``), and databases, datasets and dashboards (``serving``).

One worker with threads serves everything: its metadata database is a SQLite file, and caches are
files. There is no Redis, no Celery, and nothing listens beyond this machine.
"""

import json
import shutil
import signal
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.client import HTTPException
from pathlib import Path
from urllib.error import HTTPError

from carbon_pipelines.embedded.names import LOOPBACK, SUPERSET_USER
from carbon_pipelines.embedded.process import Launch
from carbon_pipelines.embedded.state import PartName, Report, write_atomically
from carbon_pipelines.embedded.superset_install import (
    empty_database,
    ensure_superset,
    environment_directory,
    migrate,
    run_variables,
    superset_python,
)
from carbon_pipelines.errors import PartRefusedError

_CONFIG = """\
# Written by `carbon up --with superset` on every start.
SECRET_KEY = {secret_key!r}
SQLALCHEMY_DATABASE_URI = "sqlite:///{directory}/metadata.db?timeout=30"
FEATURE_FLAGS = {{"DASHBOARD_RBAC": True}}
DATA_CACHE_CONFIG = {{
    "CACHE_TYPE": "FileSystemCache",
    "CACHE_DIR": "{directory}/cache/data",
    "CACHE_DEFAULT_TIMEOUT": 86400,
    "CACHE_THRESHOLD": 5000,
}}
CACHE_CONFIG = {{**DATA_CACHE_CONFIG, "CACHE_DIR": "{directory}/cache/other"}}
SESSION_COOKIE_SAMESITE = "Lax"
RATELIMIT_ENABLED = False
"""

_SERVER = """\
# Written by `carbon up --with superset` on every start.
import os

from superset.app import create_app

app = create_app()
with app.app_context():
    users = app.appbuilder.sm
    password = os.environ.pop("CARBON_SUPERSET_ADMIN_PASSWORD")
    known = users.find_user({user!r})
    if known is None:
        role = users.find_role("Admin")
        users.add_user({user!r}, "carbon", "carbon", "carbon@localhost.invalid", role, password)
    else:
        users.reset_password(known.id, password)
"""


@dataclass(frozen=True, slots=True)
class Superset:
    """The part `superset`; the secrets it is given show in no repr, argument or log."""

    directory: Path
    log: Path
    cache: Path
    port: int
    password: str = field(repr=False)
    secret_key: str = field(repr=False)

    name: PartName = field(default="superset", init=False)
    gently: signal.Signals = field(default=signal.SIGTERM, init=False)
    start_seconds: float = field(default=240.0, init=False)

    @property
    def program(self) -> str:
        """The Python that its environment was made with."""
        return superset_python(self.cache).resolve().name

    @property
    def ports(self) -> Mapping[str, int]:
        """One."""
        return {"http": self.port}

    def prepare(self, report: Report) -> None:
        """Install Superset once, make or migrate the metadata database, and write settings.

        Raises:
            DownloadError: It is neither in the cache nor to be had.
            SupersetInstallError: It cannot be installed, or its database not be migrated.
        """
        made_by = ensure_superset(self.cache, report).name
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        config = _CONFIG.format(secret_key=self.secret_key, directory=self.directory)
        write_atomically(self._config, config, mode=0o600)
        server = _SERVER.format(user=SUPERSET_USER)
        write_atomically(self.directory / "carbon_server.py", server, mode=0o600)
        database, version = self.directory / "metadata.db", self.directory / "made_by"
        if not version.exists():
            draft = database.with_suffix(".draft")
            shutil.copyfile(empty_database(self.cache), draft)
            draft.chmod(0o600)
            draft.replace(database)
        elif version.read_text(encoding="utf-8") != made_by:
            report("superset: migrates its metadata database")
            migrate(superset_python(self.cache), self._config, self.directory)
        write_atomically(version, made_by, mode=0o600)

    def launch(self) -> Launch:
        """Gunicorn with one worker; the user's password is in its environment until it started."""
        worker = ("--workers", "1", "--worker-class", "gthread", "--threads", "8")
        patience = ("--timeout", "120", "--graceful-timeout", "5")
        return Launch(
            (
                str(superset_python(self.cache)),
                "-m",
                "gunicorn",
                *worker,
                *patience,
                "--no-control-socket",
                "--bind",
                f"{LOOPBACK}:{self.port}",
                "carbon_server:app",
            ),
            directory=self.directory,
            log=self.log,
            environment={
                **run_variables(self._config, self.directory),
                "PATH": f"{environment_directory(self.cache) / 'bin'}:/usr/bin:/bin",
                "PYTHONPATH": str(self.directory),
                "CARBON_SUPERSET_ADMIN_PASSWORD": self.password,
            },
        )

    def answers(self) -> bool:
        """Whether it is well and lets our user in.

        Raises:
            PartRefusedError: It does not know our user's password.
        """
        address = f"http://{LOOPBACK}:{self.port}"
        asked = {"username": SUPERSET_USER, "password": self.password, "provider": "db"}
        login = urllib.request.Request(
            f"{address}/api/v1/security/login",
            json.dumps(asked).encode(),
            {"Content-Type": "application/json"},
        )
        try:
            with urllib.request.urlopen(f"{address}/health", timeout=5) as response:
                if response.status != 200:
                    return False
            with urllib.request.urlopen(login, timeout=10) as response:
                return "access_token" in json.load(response)
        except HTTPError as refusal:
            if refusal.code == 401:
                raise PartRefusedError(self.name, self.directory, "HTTP status 401") from refusal
            return False
        except (OSError, HTTPException, ValueError):
            return False

    def finish(self) -> None:
        """Nothing: dashboards are brought by those who want them."""

    def sweep(self) -> None:
        """Nothing: its files are in its directory."""

    @property
    def _config(self) -> Path:
        return self.directory / "superset_config.py"

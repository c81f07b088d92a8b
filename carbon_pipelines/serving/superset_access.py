"""Roles and row-level security of a dashboard's datasets, as code.

What belongs here: ``access.yaml``, and making Superset agree with it. What does not: users, who are
given roles where people are managed.

The order that shows nobody a row too many: roles are made empty, rules are set, and then roles are
given their datasets. A role has exactly the access to a dashboard's datasets that the file says;
rights to anything else are left alone, and so are rules of other names.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import yaml

from carbon_pipelines.errors import DashboardFilesError
from carbon_pipelines.serving.superset_http import SupersetApi

FILE = "access.yaml"
_ROLES = "/api/v1/security/roles/"
_RULES = "/api/v1/rowlevelsecurity/"
_RIGHT = "datasource_access"


@dataclass(frozen=True, slots=True)
class Rule:
    """Rows of marts that holders of roles see."""

    name: str
    roles: tuple[str, ...]
    marts: tuple[str, ...]
    clause: str


@dataclass(frozen=True, slots=True)
class AccessCode:
    """Marts of each role, and the rules."""

    roles: Mapping[str, tuple[str, ...]]
    rules: tuple[Rule, ...]


def load_access(place: Path, marts: frozenset[str]) -> AccessCode:
    """What the file of a dashboard's directory says; without a file, nothing.

    Raises:
        DashboardFilesError: It cannot be understood, or names other marts or roles.
    """
    file = place / FILE
    if not file.exists():
        return AccessCode({}, ())
    try:
        told = cast("dict[str, Any]", yaml.safe_load(file.read_text(encoding="utf-8")) or {})
        roles = {str(name): tuple(map(str, seen)) for name, seen in told["roles"].items()}
        rules = tuple(
            Rule(str(one["name"]), tuple(one["roles"]), tuple(one["marts"]), str(one["clause"]))
            for one in told.get("row_level_security") or []
        )
    except (yaml.YAMLError, KeyError, TypeError, AttributeError) as error:
        raise DashboardFilesError(file, f"cannot be understood: {error}") from error
    named = {mart for seen in (*roles.values(), *(rule.marts for rule in rules)) for mart in seen}
    held = {role for rule in rules for role in rule.roles}
    if unknown := sorted((named - marts) | (held - roles.keys())):
        raise DashboardFilesError(file, f"names {', '.join(unknown)}, which is not there")
    return AccessCode(roles, rules)


def ensure_access(
    api: SupersetApi, access: AccessCode, datasets: Mapping[str, int], database: str
) -> tuple[str, ...]:
    """Make Superset agree; returns what was changed, as lines.

    Args:
        api: Of a user who may manage roles.
        access: What is wanted.
        datasets: Superset's number of each mart's dataset.
        database: What Superset calls the database of these.

    Raises:
        ServingError: Superset does not answer, or refuses us.
    """
    if not access.roles:
        return ()
    told: list[str] = []
    numbers = {str(one["name"]): int(one["id"]) for one in api.pages(_ROLES, order="name")}
    for role in access.roles.keys() - numbers.keys():
        numbers[role] = int(api.send("POST", _ROLES, {"name": role})["id"])
        told.append(f'role "{role}": make')
    told += _ensure_rules(api, access, datasets, numbers)
    told += _ensure_rights(api, access, datasets, numbers, database)
    return tuple(told)


def _ensure_rules(
    api: SupersetApi,
    access: AccessCode,
    datasets: Mapping[str, int],
    numbers: Mapping[str, int],
) -> list[str]:
    there = {str(one["name"]): one for one in api.pages(_RULES, order="name")}
    told: list[str] = []
    for rule in access.rules:
        tables, roles = (
            sorted(datasets[one] for one in rule.marts),
            sorted(numbers[one] for one in rule.roles),
        )
        wanted = {"filter_type": "Regular", "clause": rule.clause, "group_key": None}
        found = there.get(rule.name)
        fields = {"name": rule.name, **wanted, "tables": tables, "roles": roles}
        if found is None:
            api.send("POST", _RULES, fields)
            told.append(f'rule "{rule.name}": make')
            continue
        same = all((found.get(name) or None) == value for name, value in wanted.items())
        same = same and sorted(one["id"] for one in found["tables"]) == tables
        if not same or sorted(one["id"] for one in found["roles"]) != roles:
            api.send("PUT", f"{_RULES}{found['id']}", fields)
            told.append(f'rule "{rule.name}": replace')
    return told


def _ensure_rights(
    api: SupersetApi,
    access: AccessCode,
    datasets: Mapping[str, int],
    numbers: Mapping[str, int],
    database: str,
) -> list[str]:
    views = {f"[{database}].[{mart}](id:{number})": mart for mart, number in datasets.items()}
    rights = {
        views[one["view_menu"]["name"]]: int(one["id"])
        for one in api.pages("/api/v1/security/permissions-resources/", order="id")
        if one["permission"]["name"] == _RIGHT and one["view_menu"]["name"] in views
    }
    told: list[str] = []
    for role, marts in access.roles.items():
        path = f"{_ROLES}{numbers[role]}/permissions"
        has = {int(one["id"]) for one in api.get(f"{path}/")["result"]}
        wanted = (has - set(rights.values())) | {rights[mart] for mart in marts}
        if wanted != has:
            api.send("POST", path, {"permission_view_menu_ids": sorted(wanted)})
            told.append(f'role "{role}": sees {", ".join(marts)}')
    return told

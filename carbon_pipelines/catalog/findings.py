"""What pydantic finds wrong with a declaration, as sentences with a file and a line.

What belongs here: the words for each kind of finding, and the line that it is about. What does not:
reading files (``document.py``) and which file declares what (``load.py``).
"""

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from carbon_pipelines.catalog.debezium import DebeziumSpec
from carbon_pipelines.catalog.document import Document
from carbon_pipelines.catalog.expectations import KINDS
from carbon_pipelines.catalog.owners import ReceiverSpec, SmtpSpec
from carbon_pipelines.catalog.quality import QualitySpec
from carbon_pipelines.catalog.table import (
    ColumnSpec,
    DeadLettersSpec,
    PartitionField,
    PodSpec,
    SortField,
)

Problem = tuple[Path, int, str]
_PARTS: Mapping[str, type[BaseModel]] = {
    "columns": ColumnSpec,
    "dead_letters": DeadLettersSpec,
    "debezium": DebeziumSpec,
    "default": ReceiverSpec,
    "partitioning": PartitionField,
    "pod": PodSpec,
    "quality": QualitySpec,
    "smtp": SmtpSpec,
    "sort_order": SortField,
    "teams": ReceiverSpec,
}
_SECRET = "_variable"
"""How fields end whose value, if it is wrong, may be the secret itself and is not repeated."""
_SENTENCES: Mapping[str, str] = {  # by pydantic's kind of error
    "mistake": "{reason}",
    "literal_error": "must be {expected}",
    "greater_than_equal": "must be 1m or longer",
    "string_too_short": "must not be empty",
    "too_short": "must not be empty",
    "string_type": "must be text",
    "tuple_type": "must be a list, like [a, b]",
    "dict_type": "must hold fields",
    "model_type": "must hold fields",
    "mapping_type": "must hold one entry per column",
    "model_attributes_type": "must hold fields",
}


def as_problem(document: Document, known: Sequence[str], detail: ErrorDetails) -> Problem:
    """One finding of pydantic as a sentence at a line."""
    loc = tuple(part for part in detail["loc"] if part != "[key]")
    context: Mapping[str, Any] = detail.get("ctx", {})
    kind: type[BaseModel] | None = None
    if loc and loc[0] == "expectations" and len(loc) > 2:  # pydantic puts the kind in between
        kind, loc = KINDS.get(str(loc[2])), loc[:2] + loc[3:]
    if detail["type"] in {"union_tag_invalid", "union_tag_not_found"}:
        return document.path, document.line((*loc, "kind")), _unknown_kind(loc, context)
    if detail["type"] == "mistake" and context["at"]:
        loc += context["at"]
        return document.path, document.line(loc), f"{_spelled(loc)}: {context['reason']}"
    if detail["type"] == "extra_forbidden" and loc:
        *around, name = loc
        part = kind or (_PARTS.get(str(around[0])) if around else None)
        fields = sorted(part.model_fields) if part else known
        return document.path, document.line(loc), unknown_field(str(name), fields)
    if detail["type"] == "missing":
        reason = f'"{_spelled(loc)}" is missing; every declaration of this kind has it'
        return document.path, document.line(loc), reason
    known_kind = _SENTENCES.get(detail["type"])
    if detail["type"] == "mapping_type" and loc[:1] == ("teams",):
        known_kind = "must hold one entry per team"
    sentence = known_kind.format(**context) if known_kind else detail["msg"]
    secret = bool(loc) and str(loc[-1]).endswith(_SECRET)
    told = isinstance(detail["input"], str) and not secret
    got = f', not "{detail["input"]}"' if told else ""
    return document.path, document.line(loc), f"{_spelled(loc)}: {sentence}{got}"


def unknown_field(name: str, known: Sequence[str]) -> str:
    """The sentence for a field that is none of ``known``."""
    close = get_close_matches(name, known, n=1)
    hint = f'did you mean "{close[0]}"?' if close else f"the fields are {', '.join(known)}"
    return f'"{name}" is not a field; {hint}'


def _unknown_kind(loc: Sequence[str | int], context: Mapping[str, Any]) -> str:
    if "tag" not in context:
        return f'"{_spelled((*loc, "kind"))}" is missing; it is one of {", ".join(KINDS)}'
    close = get_close_matches(str(context["tag"]), KINDS, n=1)
    hint = f'did you mean "{close[0]}"?' if close else f"the kinds are {', '.join(KINDS)}"
    return f'{_spelled((*loc, "kind"))}: "{context["tag"]}" is no kind of expectation; {hint}'


def _spelled(loc: Sequence[str | int]) -> str:
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in loc).lstrip(".")

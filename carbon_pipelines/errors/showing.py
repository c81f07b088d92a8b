"""Which sentences of errors may hold values of rows.

What belongs here: a phrase of each sentence into which a value, a key or another program's own
words are written. What does not: hiding anything (``alerts/wording.py``). Somebody who may open the
run may see them; a chat channel may be open to more people.
"""

VALUE_PHRASES: tuple[str, ...] = (
    "cannot be held exactly as",  # UnrepresentableValueError: the value
    "unchanged for key",  # MissingPriorValueError: keys
    "is not a change event:",  # MalformedEnvelopeError: what was found instead
    "cannot be read:",  # UnreadableValueError: likewise
    "could not be decoded:",  # CopyUnreadableError: the decoder's words
    "cannot be decoded:",  # UndecodableChangeError: the decoder's words
    "was not built:",  # MartBuildError: the engine's words, by way of dbt
    "Runtime Error",  # likewise, of a test of a mart that threw
    "Database Error",
    "DuckDB cannot read table snapshot",  # LakeUnreadableError: the engine's words
    "NOT verified at",  # StillDifferentError, and a table that differs from its source: keys
)


def may_show_values(sentence: str) -> bool:
    """Whether a sentence of ours, alone or inside another, may hold values of rows."""
    return any(phrase in sentence for phrase in VALUE_PHRASES)

"""Arrow's extension types (uuid), which most of its functions do not take.

What belongs here: going from such values to what they are stored as, and back. What does not: which
columns have them (``types.py``).
"""

import pyarrow as pa


def storage(values: pa.Array) -> pa.Array:
    """What ``values`` are stored as."""
    return values.storage if isinstance(values, pa.ExtensionArray) else values


def storage_type(kind: pa.DataType) -> pa.DataType:
    """What values of ``kind`` are stored as."""
    return kind.storage_type if isinstance(kind, pa.BaseExtensionType) else kind


def like(stored: pa.Array, model: pa.Array) -> pa.Array:
    """``stored`` as values of the type that ``model`` has."""
    if isinstance(model, pa.ExtensionArray):
        return pa.ExtensionArray.from_storage(model.type, stored)
    return stored

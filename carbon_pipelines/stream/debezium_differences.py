"""How tables that Debezium captures differ from those of our own capture.

What belongs here: the whole list; docs/debezium.md shows it and a test compares the two. What does
not: anything that ends with an error of ours, unless it is an error our own capture does not have.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Difference:
    """One difference: what, under which settings, and what happens then."""

    what: str
    when: str
    outcome: str


DIFFERENCES = (
    Difference(
        "tables without a key",
        "always",
        "refused in the declaration: they need a publication of their own",
    ),
    Difference(
        "position",
        "always",
        "the commit before the event's transaction, and the record's LSN; `carbon sync` prints it, "
        "and it compares with no position of our own capture",
    ),
    Difference(
        "a text that equals `unavailable.value.placeholder`",
        "written by an update, or in a row whose key changes",
        "taken for a value left unchanged: the older one stays",
    ),
    Difference(
        "a NULL in an array of another element type than text, varchar, char, json, jsonb, int4, "
        "int8, date or uuid",
        "in an update of a table without REPLICA IDENTITY FULL",
        "refused: Debezium writes NULL for a large value left unchanged too",
    ),
    Difference("an array of nothing but NULLs", "always", "refused, as are arrays of arrays"),
    Difference("`time[]`, `timetz`, `money`, `bit`, `varbit`", "always", "refused where not NULL"),
    Difference("numeric NaN and infinity", "`decimal.handling.mode` precise", "NULL"),
    Difference(
        "zeros at the end of a numeric without a bound",
        "`decimal.handling.mode` precise or double",
        "lost",
    ),
    Difference("digits of a numeric past the 17th", "`decimal.handling.mode` double", "lost"),
    Difference("the time 24:00:00", "`time.precision.mode` isostring", "00:00:00"),
    Difference("microseconds", "`time.precision.mode` connect", "cut to milliseconds"),
    Difference(
        "timestamps before 1677 and after 2262", "`time.precision.mode` nanoseconds", "NULL"
    ),
    Difference(
        "timestamps after 294247-01-10 04:00",
        "`time.precision.mode` other than isostring and connect",
        "refused, or infinity",
    ),
    Difference("intervals", "`interval.handling.mode` numeric", "refused"),
    Difference(
        "a NULL in a column that has a default",
        "`value.converter.replace.null.with.default` not `false`",
        "the default",
    ),
    Difference(
        "a value that Debezium cannot write",
        "`event.converting.failure.handling.mode` not `fail`",
        "NULL; else the connector stops",
    ),
    Difference(
        "a NULL in a column under whose name the table has one that is NOT NULL by the time the "
        "connector reads the change",
        "always",
        "0, an empty text or the default until the row is changed again, for Debezium asks the "
        "database what may be NULL",
    ),
    Difference(
        "a table that takes another name and comes back",
        "always",
        "copied anew: Debezium leaves out its changes under the other name, or writes them with "
        "the columns that it knew before; those are passed over",
    ),
    Difference(
        "a table that gets columns, takes another name and is changed under it",
        "in one transaction, after other changes of it",
        "the connector stops, and fails again whenever it is started: `carbon start-over`",
    ),
    Difference(
        "columns of a table whose names differ in upper and lower case only",
        "always",
        "the connector stops",
    ),
    Difference("TRUNCATE", "`skipped.operations` not `none`", "unseen: the rows stay"),
    Difference("columns of type `name`", "`include.unknown.datatypes` not `true`", "NULL"),
    Difference(
        "a connector created anew without its offsets",
        "always",
        "refused: a re-copy of each table is needed",
    ),
)

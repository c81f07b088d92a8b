"""What one transaction of the live workload does.

What belongs here: the kinds of transactions and how often each comes. Together they cover inserts,
updates that leave the large documents alone, deletes, key changes (a document's row included),
several tables in one transaction, savepoints and rollbacks. What does not: connections and pace.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from random import Random
from typing import TypeAlias

import psycopg
from psycopg import sql

Connection: TypeAlias = psycopg.Connection[tuple[object, ...]]

BATCH = 25
"""Ticks that arrive together."""


@dataclass(slots=True)
class Market:
    """What the transactions need to know of the sample, shared by all connections.

    Attributes:
        meters, credits, counterparties: How many were loaded; their keys count from 1.
        memo_columns: How many ``memo_<n>`` columns ``transfer`` has.
        new_numbers: Keys for new rows, each used once.
    """

    meters: int
    credits: int
    counterparties: int
    memo_columns: int
    new_numbers: "count[int]" = field(repr=False)


def load_market(connection: Connection) -> Market:
    """Look at the sample as it is, so that a second workload goes on where the first ended."""
    row = connection.execute(
        """SELECT (SELECT max(meter_id) FROM meter), (SELECT count(*) FROM credit),
                  (SELECT count(*) FROM counterparty),
                  (SELECT count(*) FROM pg_attribute WHERE attrelid = 'transfer'::regclass
                   AND attname LIKE 'memo\\_%' AND NOT attisdropped),
                  (SELECT greatest((SELECT max(tick_id) FROM fuel_price_tick),
                                   (SELECT max(counterparty_id) FROM counterparty)))"""
    ).fetchone()
    meters, credits_, parties, memos, largest = (int(str(value)) for value in row or ())
    return Market(meters, credits_, parties, memos, count(largest + 1))


def _ticks_arrive(connection: Connection, random: Random, market: Market) -> None:
    """Fuel and carbon prices, two tables in one transaction."""
    with connection.cursor() as cursor:
        cursor.executemany(
            """INSERT INTO fuel_price_tick VALUES (%s, %s, %s, %s, 'EUR', %s, clock_timestamp())""",
            [
                (
                    next(market.new_numbers),
                    "gas",
                    "TTF",
                    random.randint(1, 10**7) / 10_000,
                    random.randint(0, 10**6),
                )
                for _ in range(BATCH)
            ],
        )
        cursor.executemany(
            """INSERT INTO carbon_price_tick
               VALUES ('EUA', clock_timestamp(), %s, 70 + %s, 71 + %s, false)
               ON CONFLICT DO NOTHING""",
            [(number, number * 0.125, number * 0.125) for number in range(BATCH)],
        )


def _readings_arrive(connection: Connection, random: Random, market: Market) -> None:
    connection.execute(
        """INSERT INTO emission_reading
           SELECT %s, date_trunc('hour', now()) + n * interval '1 minute', n * 1.000001, NULL,
                  n / 3e0, 'measured'
           FROM generate_series(1, %s) n ON CONFLICT DO NOTHING""",
        (random.randint(1, market.meters), BATCH),
    )


def _readings_are_corrected(connection: Connection, random: Random, market: Market) -> None:
    """A day of a few meters at once."""
    first = random.randint(1, market.meters)
    connection.execute(
        """UPDATE emission_reading SET co2_tonnes = co2_tonnes * 1.01, quality = 'corrected'
           WHERE meter_id BETWEEN %s AND %s AND read_at < timestamptz '2025-09-02'""",
        (first, first + 2),
    )


def _a_reading_moves_in_time(connection: Connection, random: Random, market: Market) -> None:
    """A change of a composite key."""
    connection.execute(
        """UPDATE emission_reading SET read_at = read_at + interval '1 second'
           WHERE (meter_id, read_at) = (SELECT meter_id, read_at FROM emission_reading
                                        WHERE meter_id = %s ORDER BY read_at DESC LIMIT 1)""",
        (random.randint(1, market.meters),),
    )


def _old_readings_are_deleted(connection: Connection, random: Random, market: Market) -> None:
    connection.execute(
        """DELETE FROM emission_reading WHERE (meter_id, read_at) IN
           (SELECT meter_id, read_at FROM emission_reading
            WHERE meter_id = %s ORDER BY read_at LIMIT 10)""",
        (random.randint(1, market.meters),),
    )


def _a_counterparty_is_rated(connection: Connection, random: Random, market: Market) -> None:
    """The documents are not touched, so PostgreSQL does not send them."""
    connection.execute(
        """UPDATE counterparty SET rating = %s, exposure = exposure + 0.25, updated_at = now(),
               valid_until = CASE WHEN valid_until = 'infinity' THEN now() ELSE 'infinity' END
           WHERE counterparty_id = %s""",
        (random.randint(0, 100) / 10, random.randint(1, market.counterparties)),
    )


def _a_counterparty_files(connection: Connection, random: Random, market: Market) -> None:
    """One of the two documents changes, the other does not."""
    connection.execute(
        """UPDATE counterparty SET updated_at = now(),
               profile = profile || jsonb_build_object('filed', %s::int)
           WHERE counterparty_id = %s""",
        (random.randint(1, 10**6), random.randint(1, market.counterparties)),
    )


def _a_counterparty_gets_a_new_number(
    connection: Connection, random: Random, market: Market
) -> None:
    """A key change of a row whose documents are not sent."""
    connection.execute(
        "UPDATE counterparty SET counterparty_id = %s WHERE counterparty_id = %s",
        (next(market.new_numbers), random.randint(1, market.counterparties)),
    )


def _a_credit_changes_hands(connection: Connection, random: Random, market: Market) -> None:
    """Four tables in one transaction, a savepoint that is rolled back within."""
    number = random.randint(1, market.credits)
    holder = random.randint(1, market.counterparties)
    connection.execute(
        """INSERT INTO credit_state_change
           SELECT credit_id, 1 + coalesce((SELECT max(change_number) FROM credit_state_change c
                                           WHERE c.credit_id = credit.credit_id), 0),
                  state, 'reserved', now()
           FROM credit WHERE credit_id = md5('credit' || %s)::uuid""",
        (number,),
    )
    connection.execute(
        """UPDATE credit SET state = 'reserved', holder_id = %s
           WHERE credit_id = md5('credit' || %s)::uuid""",
        (holder, number),
    )
    with connection.transaction(force_rollback=True):
        connection.execute(
            "DELETE FROM credit WHERE credit_id = md5('credit' || %s)::uuid", (number,)
        )
    column, value = (
        (f"memo_{memos}", "by wire") if (memos := market.memo_columns) else ("price", 12.5)
    )
    connection.execute(
        sql.SQL(
            """INSERT INTO transfer
                   (credit_id, from_id, to_id, tonnes, settles_on, signature, {memo})
               SELECT credit_id, 1, holder_id, tonnes, current_date + 2,
                      decode(md5(%s::text), 'hex'), {value}
               FROM credit WHERE credit_id = md5('credit' || %s)::uuid"""
        ).format(memo=sql.Identifier(column), value=sql.Literal(value)),
        (number, number),
    )
    connection.execute(
        """INSERT INTO audit_log
           VALUES (clock_timestamp(), 'desk', 'transfer', jsonb_build_object('credit', %s::int))""",
        (number,),
    )


def _transfers_settle(connection: Connection, random: Random, _: Market) -> None:
    connection.execute(
        """UPDATE transfer SET settled_at = localtimestamp, price = coalesce(price, 1) * 1.0001
           WHERE transfer_id IN
               (SELECT transfer_id FROM transfer WHERE settled_at IS NULL AND credit_id > %s::uuid
                ORDER BY transfer_id LIMIT 5 FOR UPDATE SKIP LOCKED)""",
        (f"{random.getrandbits(128):032x}",),
    )


def _a_facility_is_refitted(connection: Connection, random: Random, market: Market) -> None:
    """Arrays, bytes, dates without an end and the time of day, in two tables."""
    meter = random.randint(1, market.meters)
    connection.execute(
        """UPDATE facility SET fuels = fuels || 'hydrogen, "green"'::text, updated_at = now(),
               closes_on = CASE closes_on WHEN 'infinity' THEN date '2040-01-01'
                                          ELSE 'infinity' END
           WHERE facility_id = (SELECT facility_id FROM meter WHERE meter_id = %s)""",
        (meter,),
    )
    connection.execute(
        """UPDATE meter SET channels = channels || NULL::int || %s,
               calibration = decode(md5(%s::text), 'hex'),
               reads_at = reads_at + interval '0.5 second', is_active = NOT is_active
           WHERE meter_id = %s""",
        (meter, meter, meter),
    )


def _a_credit_is_cancelled(connection: Connection, random: Random, market: Market) -> None:
    """A delete beside a delete in another table."""
    number = random.randint(1, market.credits)
    connection.execute(
        "DELETE FROM credit_state_change WHERE credit_id = md5('credit' || %s)::uuid", (number,)
    )
    connection.execute("DELETE FROM credit WHERE credit_id = md5('credit' || %s)::uuid", (number,))


def _a_day_is_undone(connection: Connection, random: Random, market: Market) -> None:
    """Many changes that are rolled back."""
    _readings_are_corrected(connection, random, market)
    _a_counterparty_files(connection, random, market)
    connection.execute("DO $$ BEGIN RAISE EXCEPTION 'the trader changed her mind'; END $$")


TRANSACTIONS: dict[Callable[[Connection, Random, Market], None], int] = {
    _ticks_arrive: 20,
    _readings_arrive: 12,
    _readings_are_corrected: 8,
    _a_reading_moves_in_time: 5,
    _old_readings_are_deleted: 5,
    _a_counterparty_is_rated: 15,
    _a_counterparty_files: 4,
    _a_counterparty_gets_a_new_number: 2,
    _a_credit_changes_hands: 15,
    _transfers_settle: 8,
    _a_facility_is_refitted: 4,
    _a_credit_is_cancelled: 2,
    _a_day_is_undone: 4,
}
"""Each kind of transaction and its share of all."""

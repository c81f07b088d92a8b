-- The rows of the sample, one INSERT for each table in an order that foreign keys allow. A comment
-- names each table; {words} are filled in by load.py, {{ and }} are braces.
--
-- hashint4extended and hashint8extended spread a row's number evenly and give the same on every
-- PostgreSQL; "& 1023" and the like keep them positive. md5 texts hardly compress.

-- rows of facility
INSERT INTO facility
SELECT n, md5('facility' || n)::uuid, 'Facility ' || n || CASE n % 7 WHEN 0 THEN ' "Nord", Süd' ELSE '' END,
       (ARRAY['DE','FR','PL','US','IN','CN'])[1 + n % 6], (ARRAY['power','steel','cement','refining'])[1 + n % 4],
       35 + (hashint4extended(n, 1) & 65535) / 4096.0, -10 + (hashint4extended(n, 2) & 65535) / 2048.0,
       date '1970-01-01' + n * 37 % 20000,
       CASE n % 10 WHEN 0 THEN date '2035-12-31' ELSE 'infinity' END,
       CASE n % 5 WHEN 0 THEN ARRAY['coal','bio mass'] WHEN 1 THEN ARRAY['gas'] WHEN 2 THEN '{{}}'::text[]
                  WHEN 3 THEN ARRAY['oil, heavy', NULL] ELSE ARRAY['gas','"peat"'] END,
       CASE WHEN n % 9 > 0 THEN (n * 3.125)::numeric(9,3) END, n % 3 > 0,
       timestamptz '2025-01-01' + n * interval '1 minute'
FROM generate_series(1, {facilities}) n

-- rows of meter
INSERT INTO meter
SELECT n, 1 + n % {facilities}, 'SN-' || lpad(to_hex(n), 8, '0'),
       CASE n % 4 WHEN 0 THEN '{{}}'::int[] WHEN 1 THEN ARRAY[n, NULL, -n] ELSE ARRAY[n, n + 1] END,
       time '00:00' + n * interval '1.000123 second', CASE WHEN n % 6 > 0 THEN decode(md5(n::text), 'hex') END,
       CASE n % 11 WHEN 0 THEN 'NaN' WHEN 1 THEN NULL ELSE 0.1 * (n % 5) END,
       timestamp '2015-03-01 08:00' + n * interval '1 hour 0.000001 second', n % 20 > 0
FROM generate_series(1, {meters}) n

-- rows of emission_reading
INSERT INTO emission_reading
SELECT m, timestamptz '2025-09-01' + h * interval '1 hour', (hashint8extended(m * 1000 + h, 1) & 16777215) / 1024.0,
       CASE WHEN h % 8 > 0 THEN (hashint8extended(m * 1000 + h, 2) & 1048575) / 128.0 END,
       (hashint8extended(m * 1000 + h, 3) & 1073741823) / 7e5,
       CASE WHEN h % 24 = 3 THEN 'estimated' WHEN h % 50 = 7 THEN 'corrected' ELSE 'measured' END::reading_quality
FROM generate_series(1::bigint, {meters}) m, generate_series(0, {readings} - 1) h

-- rows of fuel_price_tick
INSERT INTO fuel_price_tick
SELECT n, (ARRAY['gas','coal','oil','uranium'])[1 + n % 4], (ARRAY['TTF','Henry Hub','ARA','Newcastle'])[1 + n % 4],
       20 + (hashint8extended(n, 5) & 65535) / 512.0, (ARRAY['EUR','USD','USD'])[1 + n % 3],
       CASE WHEN n % 13 > 0 THEN hashint8extended(n, 6) & 1048575 END,
       timestamp '2025-09-01' + n * interval '7.000321 second'
FROM generate_series(1::bigint, {fuel_ticks}) n

-- rows of carbon_price_tick
INSERT INTO carbon_price_tick
SELECT (ARRAY['EUA','UKA','CCA','RGGI'])[1 + n % 4], timestamptz '2025-09-01' + (n / 4) * interval '8 second', n % 3,
       60 + (hashint8extended(n, 7) & 16383) / 1000.0, 61 + (hashint8extended(n, 7) & 16383) / 1000.0, n % 997 = 0
FROM generate_series(1::bigint, {carbon_ticks}) n

-- rows of counterparty
INSERT INTO counterparty
SELECT n, 'Counterparty ' || n, CASE WHEN n % 4 > 0 THEN (n % 100) / 10.0 END,
       CASE n % 3 WHEN 0 THEN n * 1.5 WHEN 1 THEN 12345678901234567890.000000001 * n ELSE 0 END,
       CASE n % 3 WHEN 0 THEN timestamptz '2030-06-30 22:00' WHEN 1 THEN '-infinity' ELSE 'infinity' END,
       CASE WHEN n % 5 > 0 THEN ARRAY['tier ' || n % 3, 'NULL', NULL] END,
       jsonb_build_object('lei', md5(n::text), 'score', n * 1.10, 'statements', statements),
       CASE WHEN n % 2 = 0 THEN ('{{"filing" :  ' || n || ', "pages":' || statements::text || '}}')::json END,
       timestamptz '2025-01-01' + n * interval '1 minute'
FROM generate_series(1, {counterparties}) n,
     LATERAL (SELECT jsonb_agg(md5(n || '-' || i)) AS statements FROM generate_series(1, 80 + n % 40) i) made

-- rows of credit
INSERT INTO credit
SELECT md5('credit' || n)::uuid, 1 + n % {facilities}, 1 + n % {counterparties}, 2015 + n % 10,
       (hashint4extended(n, 8) & 1048575) / 8.0, (enum_range(NULL::credit_state))[1 + n % 5],
       CASE WHEN n % 4 = 0 THEN timestamptz '2031-12-31 23:59:59.999999' ELSE 'infinity' END,
       CASE WHEN n % 3 > 0 THEN jsonb_build_object('method', 'VM00' || n % 47, 'audited', n % 2 = 0) END
FROM generate_series(1, {credits}) n

-- rows of credit_state_change
INSERT INTO credit_state_change
SELECT md5('credit' || n)::uuid, c, CASE WHEN c > 1 THEN (enum_range(NULL::credit_state))[c - 1] END,
       (enum_range(NULL::credit_state))[c], timestamptz '2024-01-01' + n * interval '1 minute' + c * interval '1 day'
FROM generate_series(1, {credits}) n, generate_series(1, 1 + n % 5) c

-- rows of transfer
INSERT INTO transfer (credit_id, from_id, to_id, tonnes, price, settles_on, settled_at, signature)
SELECT md5('credit' || 1 + n % {credits})::uuid, 1 + n % {counterparties}, 1 + (n + 1) % {counterparties},
       (hashint4extended(n, 9) & 65535) / 8.0, CASE WHEN n % 10 > 0 THEN (hashint4extended(n, 9) & 1048575) / 16.0 END,
       date '2025-09-01' + n % 60, CASE WHEN n % 7 > 0 THEN timestamp '2025-09-01' + n * interval '1 minute' END,
       decode(md5(n::text) || md5(n || 'b'), 'hex')
FROM generate_series(1, {transfers}) n

-- rows of audit_log
INSERT INTO audit_log
SELECT timestamptz '2025-09-01' + n * interval '31 second', 'user' || n % 17,
       (ARRAY['login','approve','export'])[1 + n % 3], CASE WHEN n % 2 = 0 THEN jsonb_build_object('n', n % 5) END
FROM generate_series(1, {audit_entries}) n

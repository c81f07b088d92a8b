select
  meter_id,
  read_at,
  co2_tonnes,
  ch4_kg,
  -- A float in the source. Sums of floats depend on their order, sums of decimals do not.
  try_cast(energy_mwh as decimal(18, 6)) as energy_mwh,
  quality
from {{ certified(source('market', 'emission_reading')) }}

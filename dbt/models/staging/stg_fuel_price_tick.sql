select
  tick_id,
  fuel,
  hub,
  currency,
  price,
  volume,
  ticked_at
from {{ certified(source('market', 'fuel_price_tick')) }}

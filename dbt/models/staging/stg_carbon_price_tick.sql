select
  instrument,
  ticked_at,
  sequence as tick_number,
  cast((bid + ask) * cast(0.5 as decimal(2, 1)) as decimal(12, 4)) as mid_price,
  is_auction
from {{ certified(source('market', 'carbon_price_tick')) }}

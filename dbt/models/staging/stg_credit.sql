select
  credit_id,
  facility_id,
  holder_id,
  vintage,
  tonnes,
  state
from {{ certified(source('market', 'credit')) }}

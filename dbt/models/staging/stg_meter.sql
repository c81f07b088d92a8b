select
  meter_id,
  facility_id
from {{ certified(source('market', 'meter')) }}

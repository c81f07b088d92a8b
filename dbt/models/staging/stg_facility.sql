select
  facility_id,
  name as facility_name,
  country,
  sector
from {{ certified(source('market', 'facility')) }}

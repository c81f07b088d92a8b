select
  transfer_id,
  from_id as seller_id,
  to_id as buyer_id,
  tonnes,
  price as price_per_tonne,
  settled_at is not null as is_settled
from {{ certified(source('market', 'transfer')) }}

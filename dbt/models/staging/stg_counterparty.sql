select
  counterparty_id,
  legal_name
from {{ certified(source('market', 'counterparty')) }}

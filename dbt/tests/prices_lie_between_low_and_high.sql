select market, instrument, hub, currency, day
from {{ ref('price_curve') }}
where not (
  low_price <= open_price and open_price <= high_price
  and low_price <= close_price and close_price <= high_price
  and low_price <= mean_price and mean_price <= high_price
)

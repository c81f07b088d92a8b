with sides as (
  select buyer_id as counterparty_id, 'bought' as side, tonnes, price_per_tonne, is_settled
  from {{ ref('stg_transfer') }}
  union all
  select seller_id as counterparty_id, 'sold' as side, tonnes, price_per_tonne, is_settled
  from {{ ref('stg_transfer') }}
),

trades as (
  select
    counterparty_id,
    sum(case when side = 'bought' then tonnes end) as bought_tonnes,
    sum(case when side = 'sold' then tonnes end) as sold_tonnes,
    sum(case when side = 'bought' then tonnes * price_per_tonne end) as bought_cost,
    sum(case when side = 'sold' then tonnes * price_per_tonne end) as sold_proceeds,
    sum(case when side = 'bought' and not is_settled then tonnes end) as open_bought_tonnes,
    sum(case when side = 'sold' and not is_settled then tonnes end) as open_sold_tonnes,
    sum(case when side = 'bought' and not is_settled then tonnes * price_per_tonne end) as open_cost,
    sum(case when side = 'sold' and not is_settled then tonnes * price_per_tonne end) as open_proceeds,
    count(case when price_per_tonne is null then 1 end) as unpriced_transfers
  from sides
  group by counterparty_id
),

holdings as (
  select holder_id as counterparty_id, count(*) as held_credits, sum(tonnes) as held_tonnes
  from {{ ref('stg_credit') }}
  where state in ('issued', 'listed', 'reserved')
  group by holder_id
),

-- Whoever is named anywhere: a party may be certified later than what it trades and holds.
parties as (
  select counterparty_id from {{ ref('stg_counterparty') }}
  union
  select counterparty_id from trades
  union
  select counterparty_id from holdings
),

ticks as (
  select mid_price, row_number() over (order by ticked_at desc, tick_number desc) as from_the_end
  from {{ ref('stg_carbon_price_tick') }}
  where instrument = 'EUA'
),

exposures as (
  select
    parties.counterparty_id,
    known.legal_name,
    coalesce(holdings.held_credits, 0) as held_credits,
    cast(coalesce(holdings.held_tonnes, 0) as decimal(38, 3)) as held_tonnes,
    cast(coalesce(trades.bought_tonnes, 0) as decimal(38, 3)) as bought_tonnes,
    cast(coalesce(trades.sold_tonnes, 0) as decimal(38, 3)) as sold_tonnes,
    cast(coalesce(trades.bought_cost, 0) as decimal(38, 7)) as bought_cost,
    cast(coalesce(trades.sold_proceeds, 0) as decimal(38, 7)) as sold_proceeds,
    cast(coalesce(trades.open_bought_tonnes, 0) as decimal(24, 3)) as open_bought_tonnes,
    cast(coalesce(trades.open_sold_tonnes, 0) as decimal(24, 3)) as open_sold_tonnes,
    cast(coalesce(trades.open_cost, 0) as decimal(38, 7)) as open_cost,
    cast(coalesce(trades.open_proceeds, 0) as decimal(38, 7)) as open_proceeds,
    coalesce(trades.unpriced_transfers, 0) as unpriced_transfers
  from parties
  left join {{ ref('stg_counterparty') }} as known on parties.counterparty_id = known.counterparty_id
  left join trades on parties.counterparty_id = trades.counterparty_id
  left join holdings on parties.counterparty_id = holdings.counterparty_id
)

select
  exposures.*,
  cast(exposures.open_cost - exposures.open_proceeds as decimal(38, 7)) as open_net_cost,
  ticks.mid_price as market_price,
  cast(
    cast(exposures.open_bought_tonnes - exposures.open_sold_tonnes as decimal(24, 3)) * ticks.mid_price
    as decimal(38, 7)
  ) as open_net_cost_at_market
from exposures
left join ticks on ticks.from_the_end = 1

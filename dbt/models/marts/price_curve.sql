with quotes as (
  select
    'carbon' as market,
    instrument,
    cast(null as varchar) as hub,
    cast(null as varchar) as currency,
    cast(ticked_at at time zone 'UTC' as date) as day,
    mid_price as price,
    cast(null as bigint) as volume,
    case when is_auction then 1 end as auction,
    row_number() over (
      partition by instrument, cast(ticked_at at time zone 'UTC' as date) order by ticked_at, tick_number
    ) as from_the_start,
    row_number() over (
      partition by instrument, cast(ticked_at at time zone 'UTC' as date) order by ticked_at desc, tick_number desc
    ) as from_the_end
  from {{ ref('stg_carbon_price_tick') }}
  union all
  select
    'fuel' as market,
    fuel as instrument,
    hub,
    currency,
    cast(ticked_at as date) as day,
    price,
    volume,
    cast(null as integer) as auction,
    row_number() over (
      partition by fuel, hub, currency, cast(ticked_at as date) order by ticked_at, tick_id
    ) as from_the_start,
    row_number() over (
      partition by fuel, hub, currency, cast(ticked_at as date) order by ticked_at desc, tick_id desc
    ) as from_the_end
  from {{ ref('stg_fuel_price_tick') }}
)

select
  market,
  instrument,
  hub,
  currency,
  day,
  count(*) as quotes,
  count(auction) as auctions,
  cast(max(case when from_the_start = 1 then price end) as decimal(12, 4)) as open_price,
  cast(max(price) as decimal(12, 4)) as high_price,
  cast(min(price) as decimal(12, 4)) as low_price,
  cast(max(case when from_the_end = 1 then price end) as decimal(12, 4)) as close_price,
  {{ exact_ratio('sum(price)', 'count(*)') }} as mean_price,
  cast(sum(volume) as bigint) as volume,
  {{ exact_ratio('sum(case when volume is not null then price * cast(volume as decimal(18, 0)) end)', 'sum(cast(volume as decimal(18, 0)))') }} as volume_weighted_price
from quotes
group by market, instrument, hub, currency, day

select
  credits.vintage,
  facilities.country,
  facilities.sector,
  credits.state,
  count(*) as credits,
  count(distinct credits.holder_id) as holders,
  cast(sum(credits.tonnes) as decimal(38, 3)) as tonnes
from {{ ref('stg_credit') }} as credits
-- A credit is never left out: its facility may be certified later than itself.
left join {{ ref('stg_facility') }} as facilities on credits.facility_id = facilities.facility_id
group by credits.vintage, facilities.country, facilities.sector, credits.state

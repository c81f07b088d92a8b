select
  meters.facility_id,
  min(facilities.facility_name) as facility_name,
  min(facilities.country) as country,
  min(facilities.sector) as sector,
  date_trunc('hour', readings.read_at) as hour_at,
  count(*) as readings,
  count(distinct readings.meter_id) as meters,
  count(case when readings.quality = 'estimated' then 1 end) as estimated_readings,
  count(case when readings.quality = 'corrected' then 1 end) as corrected_readings,
  cast(sum(readings.co2_tonnes) as decimal(38, 6)) as co2_tonnes,
  cast(sum(readings.ch4_kg) as decimal(38, 4)) as ch4_kg,
  cast(sum(readings.energy_mwh) as decimal(38, 6)) as energy_mwh,
  case
    when count(readings.energy_mwh) = count(*)
      then {{ exact_ratio('sum(readings.co2_tonnes)', 'sum(readings.energy_mwh)') }}
  end as tonnes_per_mwh
from {{ ref('stg_emission_reading') }} as readings
-- A reading is never left out: its meter or facility may be certified later than itself.
left join {{ ref('stg_meter') }} as meters on readings.meter_id = meters.meter_id
left join {{ ref('stg_facility') }} as facilities on meters.facility_id = facilities.facility_id
group by meters.facility_id, date_trunc('hour', readings.read_at)

-- Grouping and joining neither lose nor double a reading.
select made.readings, made.co2_tonnes, wanted.readings as wanted_readings, wanted.co2_tonnes as wanted_co2_tonnes
from (
  select coalesce(sum(readings), 0) as readings, coalesce(sum(co2_tonnes), 0) as co2_tonnes
  from {{ ref('emission_intensity') }}
) as made
cross join (
  select count(*) as readings, coalesce(sum(co2_tonnes), 0) as co2_tonnes
  from {{ ref('stg_emission_reading') }}
) as wanted
where made.readings <> wanted.readings or made.co2_tonnes <> wanted.co2_tonnes

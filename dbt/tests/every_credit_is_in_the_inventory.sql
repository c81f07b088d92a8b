-- Grouping and joining neither lose nor double a credit.
select made.credits, made.tonnes, wanted.credits as wanted_credits, wanted.tonnes as wanted_tonnes
from (
  select coalesce(sum(credits), 0) as credits, coalesce(sum(tonnes), 0) as tonnes
  from {{ ref('credit_inventory') }}
) as made
cross join (
  select count(*) as credits, coalesce(sum(tonnes), 0) as tonnes
  from {{ ref('stg_credit') }}
) as wanted
where made.credits <> wanted.credits or made.tonnes <> wanted.tonnes

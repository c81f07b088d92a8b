-- What all have bought is what all have sold, and both are what was transferred.
select made.bought_tonnes, made.sold_tonnes, wanted.tonnes
from (
  select
    coalesce(sum(bought_tonnes), 0) as bought_tonnes,
    coalesce(sum(sold_tonnes), 0) as sold_tonnes,
    coalesce(sum(bought_cost), 0) as bought_cost,
    coalesce(sum(sold_proceeds), 0) as sold_proceeds
  from {{ ref('carbon_cost_exposure') }}
) as made
cross join (
  select coalesce(sum(tonnes), 0) as tonnes, coalesce(sum(tonnes * price_per_tonne), 0) as cost
  from {{ ref('stg_transfer') }}
) as wanted
where made.bought_tonnes <> wanted.tonnes
  or made.sold_tonnes <> wanted.tonnes
  or made.bought_cost <> wanted.cost
  or made.sold_proceeds <> wanted.cost

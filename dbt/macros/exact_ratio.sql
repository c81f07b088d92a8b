{#- One decimal divided by another, to six places, half away from zero; null where the divisor is
    null or zero. Both have at most 24 digits before the point and six after it. DuckDB divides
    decimals as floats, so there it is done in whole numbers. -#}
{% macro exact_ratio(dividend, divisor) -%}
  {{ return(adapter.dispatch('exact_ratio', 'carbon')(dividend, divisor)) }}
{%- endmacro %}

{% macro default__exact_ratio(dividend, divisor) -%}
  cast(cast({{ dividend }} as decimal(30, 6)) / nullif(cast({{ divisor }} as decimal(30, 6)), 0) as decimal(38, 6))
{%- endmacro %}

{% macro duckdb__exact_ratio(dividend, divisor) -%}
  {%- set above = 'cast(abs(cast(' ~ dividend ~ ' as decimal(30, 6))) * 1000000 as hugeint)' -%}
  {%- set below = 'nullif(cast(abs(cast(' ~ divisor ~ ' as decimal(30, 6))) * 1000000 as hugeint), 0)' -%}
  cast(
    cast(
      sign({{ dividend }}) * sign({{ divisor }}) * ((2 * {{ above }} * 1000000 + {{ below }}) // (2 * {{ below }}))
      as decimal(31, 0)
    ) * cast(0.000001 as decimal(7, 6))
    as decimal(38, 6)
  )
{%- endmacro %}

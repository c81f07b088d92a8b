{#- The rows of a source table at its branch `certified`. Whoever starts the build says in
    CARBON_MART_CERTIFIED which snapshot that is, as JSON of "<database>.<table>" to its id, so that
    every model of a build reads the same one, in the columns that it had. On DuckDB the plugin has
    named it already. -#}
{% macro certified(relation) -%}
  {{ return(adapter.dispatch('certified', 'carbon')(relation)) }}
{%- endmacro %}

{% macro default__certified(relation) -%}
  {{ return(relation) }}
{%- endmacro %}

{% macro trino__certified(relation) -%}
  {%- set known = fromjson(env_var('CARBON_MART_CERTIFIED', '{}')) -%}
  {%- set name = relation.schema ~ '.' ~ relation.identifier -%}
  {%- if name in known -%}
    {{ return(relation ~ ' for version as of ' ~ known[name]) }}
  {%- endif -%}
  {{ return(relation ~ " for version as of 'certified'") }}
{%- endmacro %}

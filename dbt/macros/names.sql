{#- Schemas are called as the models say, without the target's in front. -#}
{% macro generate_schema_name(custom_schema_name, node) -%}
  {{ (custom_schema_name or target.schema) | trim }}
{%- endmacro %}

{#- In the lake a mart that is being built has a name of its own, so that two builds at once never
    publish each other's rows. DuckDB's memory is each build's own. -#}
{% macro generate_alias_name(custom_alias_name=none, node=none) -%}
  {%- set name = custom_alias_name or node.name -%}
  {%- if target.type == 'duckdb' or node.resource_type != 'model' -%}
    {{ name | trim }}
  {%- else -%}
    {{ name | trim }}__{{ env_var('CARBON_MART_BUILD', 'by_hand') }}
  {%- endif -%}
{%- endmacro %}

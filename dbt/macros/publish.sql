{#- Publish each mart of which every test was run and none failed, in one commit; what is published
    already stays as it is otherwise. -#}
{% macro publish(results) -%}
  {%- if execute -%}
    {%- set ran = {} -%}
    {%- for result in results -%}
      {%- do ran.update({result.node.unique_id: result.status | string}) -%}
    {%- endfor -%}
    {%- for result in results if result.node.resource_type == 'model' and 'marts' in result.node.fqn -%}
      {%- set mart = result.node -%}
      {%- set relation = adapter.get_relation(mart.database, mart.schema, mart.alias) -%}
      {%- set ready = namespace(value=(result.status | string) == 'success') -%}
      {%- for test in graph.nodes.values() if test.resource_type == 'test' and mart.unique_id in test.depends_on.nodes -%}
        {%- if ran.get(test.unique_id) not in ['pass', 'warn'] -%}
          {%- set ready.value = false -%}
        {%- endif -%}
      {%- endfor -%}
      {%- if ready.value -%}
        {%- do adapter.dispatch('publish_mart', 'carbon')(mart, relation) -%}
        {%- do log('published mart.' ~ mart.name, info=true) -%}
      {%- else -%}
        {%- do log('mart.' ~ mart.name ~ ' is not published: it was not built, or not every test of it has passed', info=true) -%}
      {%- endif -%}
      {%- if relation and target.type != 'duckdb' -%}
        {%- do adapter.drop_relation(relation) -%}
      {%- endif -%}
    {%- endfor -%}
  {%- endif -%}
{%- endmacro %}

{#- The plugin commits the rows to the lake. -#}
{% macro duckdb__publish_mart(mart, relation) -%}
  {%- set columns = adapter.get_columns_in_relation(relation) -%}
  {%- do adapter.store_relation('lake', relation, columns, '', 'iceberg', {'mart': mart.name}) -%}
{%- endmacro %}

{% macro trino__publish_mart(mart, relation) -%}
  {%- set published = api.Relation.create(database=mart.database, schema='mart', identifier=mart.name) -%}
  {%- do run_query('create schema if not exists ' ~ published.without_identifier()) -%}
  {%- do run_query(
        'create or replace table ' ~ published ~ ' with (format = \'PARQUET\', format_version = 2) as select * from ' ~ relation
      ) -%}
{%- endmacro %}

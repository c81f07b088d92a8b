{#- No two rows have the same values in these columns; nulls count as equal. -#}
{% test grain(model, columns) %}
select {{ columns | join(', ') }}, count(*) as rows_of_it
from {{ model }}
group by {{ columns | join(', ') }}
having count(*) > 1
{% endtest %}

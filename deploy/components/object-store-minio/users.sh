#!/bin/sh
# Makes MinIO's users and what each may do; what is there already gets the keys and rights of now.
set -eu
mc alias set store "$ENDPOINT" "$ADMIN_ACCESS_KEY" "$ADMIN_SECRET_KEY" > /dev/null
for policy in lake-write lake-read backups-write; do
  mc admin policy create store "$policy" "/setup/$policy.json"
done
for pair in carbon:lake-write catalog:lake-write trino:lake-write doris:lake-read backup:backups-write; do
  user="${pair%%:*}"
  policy="${pair##*:}"
  mc admin user add store "$(cat "/keys/$user/access_key")" "$(cat "/keys/$user/secret_key")" > /dev/null
  mc admin policy attach store "$policy" --user "$(cat "/keys/$user/access_key")" > /dev/null ||
    mc admin user info store "$(cat "/keys/$user/access_key")" | grep -q "$policy"
  echo "$user: $policy"
done

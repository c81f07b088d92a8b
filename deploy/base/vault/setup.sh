#!/bin/sh
# Brings an opened vault to what is declared: engine, audit, login by Kubernetes, one policy for each
# component, one role for each ServiceAccount. Safe to run again. BAO_TOKEN is a root token or one of
# the policy "admin"; it is not kept anywhere.
set -eu
policies=${1:-/vault/policies}
bao secrets list -format=json | grep -q '"kv/"' || bao secrets enable -path=kv -version=2 kv
bao auth list -format=json | grep -q '"kubernetes/"' || bao auth enable kubernetes
bao write auth/kubernetes/config kubernetes_host=https://kubernetes.default.svc >/dev/null
for file in "$policies"/*.hcl; do
  name=$(basename "$file" .hcl)
  bao policy write "$name" "$file" >/dev/null
done
bao write auth/kubernetes/role/external-secrets bound_service_account_names=external-secrets \
  bound_service_account_namespaces=external-secrets audience=vault policies=external-secrets ttl=20m >/dev/null
bao write auth/kubernetes/role/snapshot bound_service_account_names=vault-snapshot \
  bound_service_account_namespaces=vault-prod audience=vault policies=snapshot ttl=10m >/dev/null
echo "the vault is as declared"

#!/bin/sh
# The first pass when pods do not reach each other: kubectl alone, reading only, in half a minute.
# "carbon doctor --deploy deploy" goes on from here; docs/cluster/connectivity.md explains both.
#
#   deploy/troubleshoot-connectivity.sh                  the cluster: nodes, DNS, policies
#   deploy/troubleshoot-connectivity.sh CLIENT SERVICE   and one edge, level by level
#
# CLIENT is namespace/pod (or namespace/deployment), SERVICE is namespace/service[:port]; KUBECTL
# names another kubectl, with its context: KUBECTL="kubectl --context prod".
#
# Exit codes: 0 nothing found; 1 the cluster could not be asked; 2 wrong arguments; 3 a fault found.
set -u

kubectl=${KUBECTL:-kubectl}
found=0

say() { printf '%s\n' "$*"; }
good() { say "  ok      $*"; }
bad() {
    say "  FAULT   $*"
    found=3
}
hint() { say "          fix: $*"; }
# A command and its context may be two words.
# shellcheck disable=SC2086
ask() { $kubectl "$@"; }

usage() {
    sed -n '2,12s/^# \{0,1\}//p' "$0" >&2
    exit 2
}

case $# in
0) client='' service='' ;;
2)
    client=$1 service=$2
    case $client in */*) ;; *) usage ;; esac
    case $service in */*) ;; *) usage ;; esac
    ;;
*) usage ;;
esac

if ! said=$(ask get --raw /version 2>&1); then
    say "No cluster answers, or it does not accept our credentials: $(say "$said" | tail -n 1)"
    say 'See "kubectl config current-context"; log in again if the credentials expired.'
    exit 1
fi

say '1. nodes'
nodes=$(ask get nodes --no-headers 2>&1) || {
    say "  cannot be listed: $nodes"
    exit 1
}
unready=$(say "$nodes" | awk '$2 !~ /^Ready/ { print $1 }')
if [ "${nodes#No resources}" != "$nodes" ]; then
    bad 'there are none'
elif [ -n "$unready" ]; then
    bad "not Ready: $(say "$unready" | tr '\n' ' ')"
    hint "kubectl describe node NODE; then its kubelet"
else
    good "$(say "$nodes" | grep -c .) Ready"
fi

say '2. network of the nodes (kube-proxy, CNI)'
daemons=$(ask -n kube-system get daemonsets --no-headers 2>/dev/null)
lacking=$(say "$daemons" | awk 'NF && $2 != $4 { print $1 " (" $4 " of " $2 " ready)" }')
if [ -n "$lacking" ]; then
    bad "$(say "$lacking" | tr '\n' ' ')"
    hint 'kubectl -n kube-system get pods -o wide; then the logs of those that are not ready'
else
    good "$(say "$daemons" | awk 'NF { printf "%s ", $1 }')"
fi
case $daemons in
*kube-flannel*)
    bad 'flannel does not enforce NetworkPolicies'
    hint 'use a network that does: Calico, Cilium, a current kindnet'
    ;;
esac

say '3. DNS'
names=$(ask -n kube-system get pods -l k8s-app=kube-dns --no-headers 2>/dev/null)
ready=$(say "$names" | awk 'NF { split($2, n, "/"); if (n[1] == n[2] && n[2] > 0) c++ } END { print c + 0 }')
if [ "$ready" -eq 0 ]; then
    bad 'no pod with k8s-app=kube-dns is ready'
    hint 'kubectl -n kube-system rollout restart deployment -l k8s-app=kube-dns'
else
    good "$ready pods ready"
fi

say '4. networks that overlap'
pods=$(ask get nodes -o jsonpath='{range .items[*]}{.spec.podCIDR}{"\n"}{end}' 2>/dev/null | sort)
twice=$(say "$pods" | grep . | uniq -d)
if [ -n "$twice" ]; then
    bad "two nodes give out the same pod addresses: $twice"
    hint 'give the controller manager a larger cluster CIDR, and make the younger node anew'
else
    good 'each node has pod addresses of its own'
fi

say '5. Services without a ready endpoint'
empty=$(
    ask get endpointslices.discovery.k8s.io -A \
        -o jsonpath='{range .items[*]}{.metadata.namespace}/{.metadata.labels.kubernetes\.io/service-name}{" "}{.endpoints[*].conditions.ready}{"\n"}{end}' \
        2>/dev/null |
        awk '{ seen[$1] = 1; for (i = 2; i <= NF; i++) if ($i == "true") up[$1] = 1 }
             END { for (s in seen) if (!(s in up)) print s }' | sort
)
if [ -n "$empty" ]; then
    bad "$(say "$empty" | tr '\n' ' ')"
    hint 'kubectl -n NAMESPACE get pods,events: not ready, or no pod has the labels of the selector'
else
    good 'none'
fi

say '6. NetworkPolicies'
ask get networkpolicies.networking.k8s.io -A --no-headers 2>/dev/null |
    awk '{ c[$1]++ } END { for (n in c) print "  " n ": " c[n]; if (!NR) print "  none" }' | sort

if [ -n "$client" ]; then
    space=${client%%/*} pod=${client#*/}
    server_space=${service%%/*} name=${service#*/}
    case $name in *:*) port=${name##*:} name=${name%%:*} ;; *) port='' ;; esac

    say "7. $client -> $service"
    address=$(ask -n "$server_space" get service "$name" -o jsonpath='{.spec.clusterIP}' 2>&1) || {
        bad "no Service $server_space/$name"
        hint "kubectl -n $server_space get services"
        exit 3
    }
    [ -n "$port" ] || port=$(ask -n "$server_space" get service "$name" -o jsonpath='{.spec.ports[0].port}')
    behind=$(
        ask -n "$server_space" get endpointslices.discovery.k8s.io \
            -l "kubernetes.io/service-name=$name" \
            -o jsonpath='{range .items[*]}{range .endpoints[*]}{.addresses[0]}{"\n"}{end}{end}' |
            head -n 3
    )
    pod_port=$(
        ask -n "$server_space" get endpointslices.discovery.k8s.io \
            -l "kubernetes.io/service-name=$name" -o jsonpath='{.items[0].ports[0].port}' 2>/dev/null
    )
    # shellcheck disable=SC2016
    script='
        host=$1 vip=$2 port=$3 pod_port=$4; shift 4
        reach() {
            if command -v python3 >/dev/null; then
                python3 -c "import socket, sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), 3)" "$1" "$2" 2>/dev/null
            elif command -v bash >/dev/null; then
                timeout 3 bash -c "exec 3<>/dev/tcp/$1/$2" 2>/dev/null
            elif command -v nc >/dev/null; then
                nc -z -w 3 "$1" "$2" 2>/dev/null
            else
                return 9
            fi
        }
        if getent hosts "$host" >/dev/null 2>&1 || nslookup "$host" >/dev/null 2>&1; then echo dns 0
        elif command -v python3 >/dev/null && python3 -c "import socket, sys; socket.gethostbyname(sys.argv[1])" "$host" 2>/dev/null; then echo dns 0
        else echo dns 1; fi
        if [ "$vip" != None ]; then reach "$vip" "$port"; echo service $?; fi
        for pod in "$@"; do reach "$pod" "$pod_port"; echo pod $?; done'
    # shellcheck disable=SC2086
    told=$(ask -n "$space" exec -i "$pod" -- sh -s "$name.$server_space.svc" "$address" "$port" \
        "${pod_port:-$port}" $behind 2>&1 <<END
$script
END
    ) || {
        say "  cannot be tried: $(say "$told" | tail -n 1)"
        hint 'carbon doctor --deploy deploy --debug-image IMAGE-WITH-PYTHON'
        [ "$found" -ne 0 ] || found=1
        exit "$found"
    }
    dns=$(say "$told" | awk '$1 == "dns" { print $2 }')
    vip=$(say "$told" | awk '$1 == "service" { print $2 }')
    up=$(say "$told" | awk '$1 == "pod" && $2 == 0 { c++ } END { print c + 0 }')
    all=$(say "$told" | awk '$1 == "pod" { c++ } END { print c + 0 }')
    if [ "$dns" = 0 ]; then good "DNS: $name.$server_space.svc"; else
        bad "DNS: $name.$server_space.svc is not answered"
        hint 'see 3; else a policy keeps the pod from UDP and TCP 53 of kube-system'
    fi
    if [ "$all" -eq 0 ]; then
        bad 'the Service has no endpoint: see 5'
    elif [ "$up" -eq "$all" ]; then
        good "TCP to the pods' own addresses ($up of $all)"
        if [ "${vip:-0}" = 0 ]; then good "TCP to the Service's address $address:$port"; else
            bad "the pods answer, the Service's address $address:$port does not: kube-proxy"
            hint 'kubectl -n kube-system rollout restart daemonset/kube-proxy'
        fi
    else
        bad "TCP to the pods' own addresses ($up of $all): a policy, the CNI, or nothing listens"
        hint "policies: kubectl -n $server_space describe networkpolicies; kubectl -n $space describe networkpolicies"
        hint 'no policy forbids it, and it fails from every namespace: the node drops forwarded packets;'
        hint 'restart kube-proxy, then the kubelet, then make the node anew after a backup'
    fi
fi

say ''
if [ "$found" -eq 0 ]; then
    say 'Nothing found. "carbon doctor --deploy deploy" tries every edge, up to the login and the right.'
else
    say 'Faults found. "carbon doctor --deploy deploy" names the cause of each edge.'
fi
exit "$found"

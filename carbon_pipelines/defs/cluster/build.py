"""All of Dagster's definitions about the cluster, from the declared services.

What belongs here: the list of jobs and resources, and that there are none where nobody says where
the manifests are.
"""

from collections.abc import Mapping
from pathlib import Path

import dagster as dg

from carbon_pipelines.cluster.load import load_graph
from carbon_pipelines.defs.cluster.provision import provision_job
from carbon_pipelines.defs.cluster.services import helm_from, kubernetes_from, service_jobs


def cluster_jobs(environ: Mapping[str, str]) -> dg.Definitions:
    """The jobs that change a cluster, and the two resources they need.

    Raises:
        DeclarationError: A service's declaration is wrong; files and lines are named.
    """
    told = environ.get("CARBON_CLUSTER_DEPLOY")
    if not told:
        return dg.Definitions()
    deploy = Path(told)
    return dg.Definitions(
        jobs=[provision_job(load_graph(deploy)), *service_jobs()],
        resources={
            "kubernetes": kubernetes_from(environ),
            "helm": helm_from(environ, deploy),
        },
    )

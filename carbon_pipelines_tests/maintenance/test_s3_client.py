"""A process has one client of S3 for each way to reach one."""

from carbon_pipelines.maintenance.s3_client import shared_client

REACHED = {
    "s3.endpoint": "http://127.0.0.1:1",
    "s3.region": "us-east-1",
    "s3.access-key-id": "key",
    "s3.secret-access-key": "secret",
    "s3.force-virtual-addressing": "false",
}


def test_tables_of_one_store_share_a_client_and_other_credentials_have_their_own() -> None:
    first = shared_client({**REACHED, "write.target-file-size-bytes": "1"})

    assert shared_client({**REACHED, "write.target-file-size-bytes": "2"}) is first
    others = [{"s3.access-key-id": "other"}, {"s3.endpoint": "http://127.0.0.1:2"}]
    made = [shared_client({**REACHED, **other}) for other in others]
    assert made[0] is not first
    assert made[1].meta.endpoint_url == "http://127.0.0.1:2"
    assert first.meta.endpoint_url == "http://127.0.0.1:1"

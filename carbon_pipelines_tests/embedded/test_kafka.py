import uuid

from carbon_pipelines.embedded.kafka import name_cluster


def test_a_cluster_id_never_looks_like_an_option() -> None:
    one_of_each_first_byte = [uuid.UUID(bytes=bytes([first, *range(15)])) for first in range(256)]
    names = [name_cluster(drawn) for drawn in one_of_each_first_byte]
    assert [name for name in names if name.startswith("-") or len(name) != 22] == []

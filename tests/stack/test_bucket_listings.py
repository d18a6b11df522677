"""A process that runs for weeks sees what others put into a bucket: what it saw before is not what is there."""

import uuid

from resources.storage import ArtifactStore, Spool


def test_the_spool_lists_what_came_and_went_since_it_was_listed(bucket: str) -> None:
    import boto3

    elsewhere = boto3.client("s3")
    spool = Spool(root=f"s3://{bucket}/spool")
    assert spool.files("shapes") == []
    names = [f"camera-{number}/{uuid.uuid4().hex}.parquet" for number in (1, 1, 2)]
    seen = []
    for name in names:
        elsewhere.put_object(Bucket=bucket, Key=f"spool/shapes/{name}", Body=b"rows")
        seen.append(name)
        assert spool.files("shapes") == sorted(seen)
    elsewhere.delete_object(Bucket=bucket, Key=f"spool/shapes/{names[0]}")
    assert spool.files("shapes") == sorted(names[1:])
    spool.remove("shapes", names)
    assert spool.files("shapes") == []


def test_an_artifact_that_another_machine_stored_exists_and_reads(bucket: str) -> None:
    import boto3

    elsewhere = boto3.client("s3")
    store = ArtifactStore(root=f"s3://{bucket}/tables")
    store.write("days/1/table", b"mine")
    assert store.names("days/1") == ["table"] and not store.exists("days/1/later")
    elsewhere.put_object(Bucket=bucket, Key="tables/days/1/later", Body=b"theirs")
    assert store.exists("days/1/later") and store.read("days/1/later") == b"theirs"
    elsewhere.put_object(Bucket=bucket, Key="tables/days/1/table", Body=b"theirs, and longer")
    assert store.read("days/1/table") == b"theirs, and longer"
    assert store.names("days/1") == ["later", "table"]
    elsewhere.delete_object(Bucket=bucket, Key="tables/days/1/later")
    assert not store.exists("days/1/later") and store.names("days/1") == ["table"]

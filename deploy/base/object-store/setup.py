"""Makes the buckets that BUCKETS names and the store has not; what is there stays as it is.

An unfinished upload of a writer that died is removed after a week, where the store has lifecycle
rules; one that has none says so, which is no error.
"""

import os
import sys

from botocore.config import Config
from botocore.exceptions import ClientError
from botocore.session import get_session

RULES = {
    "Rules": [
        {
            "ID": "unfinished-uploads",
            "Status": "Enabled",
            "Filter": {"Prefix": ""},
            "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 7},
        }
    ]
}


def main() -> None:
    """Make buckets; anything but "is there already" ends the Job, which is then tried again."""
    store = get_session().create_client(
        "s3",
        endpoint_url=os.environ["ENDPOINT"],
        config=Config(s3={"addressing_style": "path"}, connect_timeout=5, read_timeout=30),
    )
    present = {bucket["Name"] for bucket in store.list_buckets()["Buckets"]}
    for bucket in os.environ["BUCKETS"].split():
        if bucket not in present:
            store.create_bucket(Bucket=bucket)
            sys.stdout.write(f"made bucket {bucket}\n")
        try:
            store.put_bucket_lifecycle_configuration(Bucket=bucket, LifecycleConfiguration=RULES)
        except ClientError as error:
            sys.stdout.write(f"bucket {bucket} has no rule for unfinished uploads: {error}\n")


if __name__ == "__main__":
    main()

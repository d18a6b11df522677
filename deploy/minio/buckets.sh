# The buckets of MinIO, and a user for each service that reaches its own alone. At each start, and as often as you like.
set -eu

# user NAME SECRET BUCKET...
user() {
    name=$1 secret=$2 policy=${TMPDIR:-/tmp}/$1.json
    shift 2
    resources=
    for bucket in "$@"; do
        mc mb --ignore-existing "store/$bucket"
        resources="$resources${resources:+, }\"arn:aws:s3:::$bucket\", \"arn:aws:s3:::$bucket/*\""
    done
    actions='"s3:ListBucket", "s3:GetBucketLocation", "s3:ListBucketMultipartUploads", "s3:ListMultipartUploadParts",
        "s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload"'
    printf '{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": [%s], "Resource": [%s]}]}' \
        "$actions" "$resources" >"$policy"
    # The secret by standard input: arguments are shown to whoever lists processes.
    printf '%s\n%s\n' "$name" "$secret" | mc admin user add store
    mc admin policy create store "$name" "$policy"
    # Attached twice, it would be an error.
    mc admin policy detach store "$name" --user "$name" >/dev/null 2>&1 || true
    mc admin policy attach store "$name" --user "$name"
}

user lakefs "$LAKEFS_S3_SECRET" lakefs
user mlflow "$MLFLOW_S3_SECRET" mlflow
user visionops "$VISIONOPS_S3_SECRET" visionops-artifacts visionops-drop visionops-spool

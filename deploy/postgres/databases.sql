-- Run once, when Postgres makes its data folder: a database and its owner for each service, and nobody else's way in.
\getenv dagster DAGSTER_DATABASE_PASSWORD
\getenv mlflow MLFLOW_DATABASE_PASSWORD
\getenv lakefs LAKEFS_DATABASE_PASSWORD
CREATE ROLE dagster LOGIN PASSWORD :'dagster';
CREATE ROLE mlflow LOGIN PASSWORD :'mlflow';
CREATE ROLE lakefs LOGIN PASSWORD :'lakefs';
CREATE DATABASE dagster OWNER dagster;
CREATE DATABASE mlflow OWNER mlflow;
CREATE DATABASE lakefs OWNER lakefs;
REVOKE ALL ON DATABASE postgres, template1, dagster, mlflow, lakefs FROM PUBLIC;

-- Run once, when Postgres makes its data folder. Dagster's database is the server's first.
CREATE DATABASE mlflow;
CREATE DATABASE lakefs;

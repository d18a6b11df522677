"""Names that vulture finds nobody to use, and who does. Read by `make lint`, never run."""

# Set on, or called by, what others give: Python, Pillow, ONNX and ONNX Runtime, the standard library's servers and XML parser,
# tuf, uvicorn, Starlette, urllib3, Lightning, Dagster, MLflow, rich.
__getattr__
_.MAX_IMAGE_PIXELS
_.attrs
_.capture_signals
_.close_connection
_.configure_optimizers
_.create_io_manager
_.create_resource
_.daemon_threads
_.dataloader_idx
_.disconnected
_.do_GET
_.do_POST
_.doc_string
_.doctype
_.dump_to_path
_.forward
_.inter_op_num_threads
_.intra_op_num_threads
_.load_from_path
_.log_message
_.log_severity_level
_.on_after_batch_transfer
_.on_fit_start
_.on_save_checkpoint
_.on_train_batch_end
_.on_train_end
_.on_train_epoch_end
_.on_train_epoch_start
_.on_train_start
_.protocol_version
_.readinto
_.reference_time
_.rich_proxied_file
_.should_exit
_.should_update
_.sock
_.spool_max_size
_.timeout_graceful_shutdown
_.trace
_.train_dataloader
_.training_step
_.unraisablehook

# pydantic's.
_.model_config

# Named in quotes only, so that no definition loads them.
ArtifactRepository
ExecutionPlan
MlflowRun
MlflowVersion
PlanOrchestrationContext
SensorExecutionData
Token
UnresolvedAssetJobDefinition

# Found by their text: what a stage has for a task, classes that recipes name, settings of a device, fields that templates of pages show.
TASK
SmallConvNet
SmallDetector
TimmClassifier
TorchvisionDetector
TransformersDetector
YoloxDetector
_.certificate_key
_.detail_link
_.modified

# What adapters of models say by name, set on layers of others, and what docs/model_table.py writes its table with.
_.decode_in_inference
_.eps
_.normalisation
parameters_of
published_model

# What reports, verdicts and records say; read from JSON, or by tests.
_.claimed_against
_.fetched_bytes
_.fresh_tensors
_.largest_embedding_difference
_.own_training
_.physical_address
_.report_every
_.staged_files

# For others' code: training scripts, tasks of one's own, and whoever receives the reports of devices.
_.log_model
read_report
unregister

# What tests hold the product to: the steps after which they kill, sums that add up, a device without child processes.
OpenedHere
STEPS
_.add_up

# A value that the lakeFS API gives.
_.DEST_WINS

# Operations of the lakeFS API: their names are made of the operation's.
copy_object
create_tag
delete_object
delete_repository
delete_repository_metadata
delete_tag
diff_branch
diff_refs
find_merge_base
get_auth_capabilities
get_branch
get_branch_protection_rules
get_commit
get_current_user
get_garbage_collection_config
get_lake_fs_version
get_physical_address
get_repository_metadata
get_run_hook_output
get_setup_state
get_storage_config
get_tag
get_underlying_properties
hard_reset_branch
health_check
import_cancel
link_physical_address
list_branches
list_objects
list_repositories
list_repository_runs
list_run_hooks
list_tags
log_commits
post_stats_events
set_branch_protection_rules
set_repository_metadata
setup
stat_object
update_object_user_metadata
upload_object_preflight

# Settings of `resources.settings` that are declared for their tables: read by name, or by the tools that they are for.
_.action_token
_.error_webhook
_.github
_.gitlab
_.metrics_token
_.postgres_url
_.serve_token
_.session_token
_.username
_.verdict_webhook

# Whether a candidate is right as often on the same frames: simulations hold it, and no device compares two models yet.
log_e_no_worse
log_e_worse

"""What a device has to survive, line by line, and the tests that hold it: none may lose its name silently.

The lines are those of the design: its table of faults as far as device and trust go, its corrections on trust and
devices (by number), and what is typed or copied wrongly.
"""

import ast

import pytest

from resources.home import ROOT

FAULTS = {
    "killed, power cut in any state": (
        "test_killed_at_every_step_of_an_update",
        "test_power_cut_at_every_step_of_an_update",
        "test_sigkills_of_real_processes",
    ),
    "older timestamp replayed; the same with TUF's cache lost": (
        "test_an_older_timestamp_is_refused",
        "test_an_older_timestamp_is_refused_though_tufs_cache_is_lost",
    ),
    "each file of TUF's cache emptied, cut, noise; root.json's link gone": (
        "test_whatever_happens_to_tufs_cache_the_device_recovers",
    ),
    "assignment or blob altered by a bit": (
        "test_an_assignment_altered_by_a_bit_is_refused",
        "test_a_file_altered_by_a_bit_is_quarantined_after_three_tries",
    ),
    "bundle not signed by approvers; role signed by a stranger; online key lists it itself": (
        "test_a_bundle_that_approvers_did_not_sign_is_refused",
        "test_a_role_signed_by_a_stranger_is_refused",
        "test_an_online_key_cannot_list_a_bundle_in_its_own_role",
    ),
    "another group's or project's repository under the same keys": (
        "test_another_groups_assignment_is_refused",
        "test_a_repository_of_another_project_under_the_same_keys_is_refused",
    ),
    "release below the floor; the old model under a new release": (
        "test_a_release_below_the_floor_is_refused_and_the_same_model_under_a_new_release_is_taken",
        "test_a_stolen_online_key_cannot_go_below_the_floor",
    ),
    "timestamp expired; refreshed": ("test_an_expired_timestamp_stops_no_model_and_a_fresh_one_is_followed",),
    "clock in 1972 with an expired timestamp; a year ahead": (
        "test_a_clock_in_1972_does_not_make_an_expired_timestamp_young",
        "test_a_clock_a_year_ahead_says_expired_and_serves",
    ),
    "connections die after 20 kB": ("test_connections_that_die_after_20_kb_fetch_no_byte_twice",),
    "server 503, bucket gone": (
        "test_what_is_no_answer_is_unreachable_and_keeps_what_arrived",
        "test_a_repository_that_is_gone_stops_no_model",
    ),
    "disk full": ("test_a_full_disk_refuses_the_update_frees_its_room_and_serves_on",),
    "ONNX Runtime that lacks the opset": (
        "test_a_runtime_that_lacks_the_opset_refuses_before_a_byte_is_fetched",
        "test_what_a_machine_cannot_run_is_refused_before_a_byte_is_fetched",
    ),
    "golden answers differ; too slow; too large; crashes on load": (
        "test_killed_at_every_step_of_an_update",
        "test_a_slow_candidate_is_left_by_its_processor_time",
        "test_a_model_that_takes_more_memory_than_it_may_is_refused",
        "test_a_candidate_that_answers_nan_is_rolled_back_and_the_image_is_answered",
        "test_starts_are_counted_before_and_end_after_three",
    ),
    "root rotated thrice, threshold raised": (
        "test_three_root_rotations_while_a_device_was_off_are_followed",
        "test_a_threshold_of_two_takes_two_different_approvers",
    ),
    "signer killed at any step": (
        "test_killed_before_every_write_of_a_publication",
        "test_killed_before_every_write_of_a_change_of_keys",
    ),
    "Dagster, MLflow, lakeFS down": ("test_a_repository_that_is_gone_stops_no_model",),
    "a frame made to do harm": (
        "test_a_hostile_frame_is_unreadable_and_neither_model_nor_agent_notice",
        "test_a_file_that_is_too_large_for_an_image_is_told_and_not_read_whole",
    ),
}
CORRECTIONS = {
    "16 reports of two devices by one name": (
        "test_two_devices_with_one_disk_take_no_report_of_each_other_away",
    ),
    "21 the device stands alone, and what both need lives there": (
        "test_the_agent_installs_what_it_imports_and_works_without_the_rest",
        "test_the_same_pixels_bit_for_bit",
        "test_every_kind_of_png_bit_for_bit",
    ),
    "26 floors by key, absurd dates, floor ≤ base, fast-forward": (
        "test_fast_forward_ends_with_the_stolen_keys_and_devices_recover_untouched",
        "test_an_assignment_dated_in_the_far_future_is_refused",
        "test_a_floor_above_its_own_base_is_refused",
        "test_no_number_of_an_assignment_silences_a_device",
    ),
    "27, 28 back without approvers; the way back stays open": (
        "test_an_automatic_rollback_reaches_a_device_while_the_approvers_keys_are_absent",
    ),
    "29 one repository, releases signed by who sees them": ("test_two_approvers_sign_what_they_see",),
    "30 devices, certificates, token, proxy, mounted secrets, provenance": (
        "test_what_cannot_be_done_is_said_in_one_line",
        "test_certificates_of_both_sides",
        "test_a_bearer_token_goes_to_the_repository_and_to_nobody_it_sends_to",
        "test_a_proxy_is_asked_for_everything",
        "test_a_device_key_that_others_can_read_is_refused_unless_it_is_a_mounted_secret",
        "test_a_promoted_version_answers_on_a_device",
    ),
    "31 a chunk fetched again at most, each event once": (
        "test_killed_at_every_step_of_an_update",
        "test_sigkills_of_real_processes",
    ),
    "32 memory of all processes": ("test_all_processes_of_a_device_have_little_memory",),
    "33 golden images, engine caches": (
        "test_a_model_is_compiled_before_the_switch_and_its_engine_goes_with_it",
        "test_killed_at_every_step_while_a_model_is_compiled",
        "test_a_build_of_hours_keeps_a_device_neither_from_news_nor_from_reports",
        "test_the_cpu_provider_is_prepared_for_nothing",
        "test_a_manifest_says_by_provider_how_far_answers_may_differ",
        "test_a_promoted_version_answers_on_a_device",
        "test_a_detectors_golden_answers",
    ),
    "34 observed by answers, or a day": ("test_a_trial_ends_after_a_day_with_one_right_answer",),
    "35 other machines and formats are refused by name": (
        "test_other_machines_are_refused_in_one_line",
        "test_a_newer_format_names_the_side_that_is_behind",
        "test_a_device_needs_no_newer_python_than_it_says",
    ),
    "36 windows, lock file, bandwidth, outbox, export": (
        "test_a_window_is_kept_in_its_own_time_zone",
        "test_a_lock_file_postpones_the_swap_but_not_the_download",
        "test_a_bandwidth_limit_is_held",
        "test_the_outbox_drops_the_oldest_and_counts_them",
        "test_a_repository_in_a_bucket_is_exported_for_a_site_without_a_network",
    ),
    "37 bad lines, systemd, key services": (
        "test_bad_lines_bring_the_file_all_the_same",
        "test_a_line_that_falls_silent_is_left_and_what_came_is_kept",
        "test_an_update_comes_over_a_slow_line_without_a_byte_twice",
        "test_a_line_that_stalls_for_longer_keeps_what_came_and_goes_on_there",
        "test_a_download_of_hours_does_not_keep_a_device_from_news",
        "test_each_key_service_is_opened_by_its_own_signer",
        "test_systemd_reads_the_unit",
        "test_run_answers_follows_and_ends_at_a_signal",
        "test_online_roles_at_a_key_service",
        "test_an_approvers_key_in_a_token",
    ),
}
BAD_INPUT = {
    "provisioning twice": ("test_what_cannot_be_done_is_said_in_one_line",),
    "a group name with a slash": (
        "test_what_cannot_be_done_is_said_in_one_line",
        "test_a_folder_of_another_format",
    ),
    "a bundle larger than the disk": ("test_a_bundle_larger_than_the_disk",),
    "an unsupported ONNX Runtime": ("test_an_onnx_runtime_that_lacks_the_opset",),
    "a clock far off": ("test_a_clock_that_is_weeks_ahead", "test_a_clock_that_is_weeks_behind"),
    "keys missing or readable by others": (
        "test_what_cannot_be_done_is_said_in_one_line",
        "test_a_device_key_that_others_can_read",
        "test_a_device_key_that_is_gone",
        "test_a_root_of_trust_that_is_gone_is_needed_only_once",
    ),
    "a repository that cannot be written": ("test_what_cannot_be_done_is_said_in_one_line",),
    "a folder of another format": (
        "test_a_folder_of_another_format",
        "test_a_folder_that_is_none_of_a_device",
        "test_a_state_of_another_format",
    ),
}


@pytest.fixture(scope="module")
def tests() -> set[str]:
    """The names of all tests of devices and of the command line's `fleet`."""
    files = [*(ROOT / "tests" / "devices").glob("test_*.py"), ROOT / "tests" / "commands" / "test_fleet.py"]
    files.append(ROOT / "tests" / "test_architecture.py")
    trees = (ast.parse(file.read_text()) for file in files)
    return {node.name for tree in trees for node in tree.body if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize(
    "lines", [FAULTS, CORRECTIONS, BAD_INPUT], ids=["faults", "corrections", "bad input"]
)
def test_each_line_has_a_test(lines: dict[str, tuple[str, ...]], tests: set[str]) -> None:
    missing = {line: sorted(set(names) - tests) for line, names in lines.items() if set(names) - tests}
    assert not missing and all(lines.values())

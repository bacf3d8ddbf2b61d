"""Tests that the default run leaves out although their neighbours are in it, and what protects the same there.

Seconds on one of two cores. They run with `make test-slow`, before a release and before an issue is resolved.
"""

SLOW = {
    "faults/test_confirmation_kills.py::test_a_killed_worker_changes_nothing": (49, "faults/test_kills.py"),
    "cli/test_processes.py::test_a_killed_worker_is_replaced": (26, "faults/test_kills.py"),
    "losses/test_small_objects.py::test_small_objects[inverse_form]": (25, "the other losses"),
    "training/test_trainer.py::test_killed_processes_change_no_number": (
        25,
        "test_a_stopped_training_continues_bit_for_bit",
    ),
    "api/test_serving.py::test_killed_and_started_again_it_says_the_same": (22, "cli/test_db_serve.py"),
    "cli/test_plan.py::test_a_plan_measures_and_stores_nothing": (21, "launch/test_cost_estimate.py"),
    "worker/test_distinct_points.py::test_several_workers_train_each_point_once[postgres]": (18, "its form [sqlite]"),
    "losses/test_library.py::test_two_processes_train_together": (17, "sums over a batch in losses/test_properties.py"),
    "analysis/test_real_runs.py::test_the_same_configuration_is_seldom_told_from_itself[phantom-24]": (
        14,
        "[nuclei-15]",
    ),
    "losses/test_minimum.py::test_descent_ends_at_the_right_answer[inverse_form]": (14, "the other losses"),
    "cli/test_batch.py::test_slurms_warning_gives_the_trial_back_and_queues_the_job_again": (
        11,
        "worker/test_worker.py",
    ),
    "cli/test_foreign_packages.py::test_code_of_the_users_own_is_found_in_the_current_folder": (
        9,
        "training/test_custom.py",
    ),
    "launch/test_device_probe.py::test_a_training_step_is_timed_and_the_precision_resolved": (
        8,
        "cli/test_processes.py",
    ),
}

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
    "training/test_documented_entry.py::test_the_example_runs": (18, "training/test_custom.py"),
    "training/test_imports.py::test_a_training_imports_what_it_uses": (
        17,
        "the imports of the worker and the commands",
    ),
    "faults/test_kills.py::test_workers_killed_at_random_lose_and_double_nothing[postgres]": (10, "its form [sqlite]"),
    "losses/test_precision.py::test_one_class_batches[inverse_form]": (11, "the other losses"),
    "losses/test_precision.py::test_default_type_of_torch_is_no_matter[inverse_form-2d]": (11, "the other losses"),
    "training/test_trial.py::test_every_loss_hands_its_options_back[inverse_form]": (9, "the other losses"),
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
    "losses/test_properties.py::test_extreme_logits_are_finite[inverse_form-2d-10000.0]": (
        27,
        "its form with logits of 200",
    ),
    "cli/test_init.py::test_questions_on_a_terminal_then_a_search": (30, "the flags in cli/test_init.py"),
    "analysis/test_confirmation.py::test_cases_that_took_no_part_in_choosing_the_finalists[folds]": (
        20,
        "its form [test]",
    ),
    "training/test_examples.py::test_a_plain_script_is_searched": (22, "training/test_documented_entry.py"),
    "cli/test_processes.py::test_a_launch_serves_the_dashboard_beside_it": (10, "api/test_serving.py"),
    "training/test_pretended_training.py::test_what_does_not_repeat_is_refused_by_name[inverse_form]": (
        7,
        "the other losses",
    ),
    "cli/test_commands.py::test_a_killed_worker_leaves_nothing_and_the_next_one_continues": (
        12,
        "worker/test_commands.py",
    ),
    "api/test_users.py::test_pages_offer_what_the_role_allows": (15, "roles over REST in api/test_users.py"),
    "export/test_monai_bundle.py::test_monai_runs_the_bundle": (15, "make test-home, and the bundle's self-test"),
}

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
    "worker/test_distinct_points.py::test_several_workers_train_each_point_once[postgres]": (
        18,
        "search/test_finite_space.py",
    ),
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
    "test_contributing.py::test_a_recipe_does_what_it_says[a command]": (
        22,
        "cli/test_main.py, and the other recipes before a release",
    ),
    "cli/test_hanging.py::test_a_launch_goes_on_after_a_training_that_hangs": (17, "worker/test_endings.py"),
    "worker/test_auto_search.py::test_a_kill_changes_no_point": (16, "search/test_reproducible_across_processes.py"),
    "worker/test_distinct_points.py::test_several_workers_train_each_point_once[sqlite]": (
        15,
        "search/test_finite_space.py",
    ),
    "losses/test_precision.py::test_default_type_of_torch_is_no_matter[inverse_form-3d]": (15, "the other losses"),
    "losses/test_behavior.py::test_losses_with_needs_are_probed_alone[conditional_boundary]": (5, "the other losses"),
    "cli/test_processes.py::test_ctrl_c_gives_running_trials_back[to the process and its group]": (
        14,
        "cli/test_hanging.py::test_ctrl_c_leaves_no_trial_behind_that_hears_nothing",
    ),
    "worker/test_worker.py::test_a_study_whose_trials_all_fail_alike_stops_itself": (
        13,
        "cli/test_processes.py::test_a_study_that_fails_for_one_reason_stops_and_says_so",
    ),
    "worker/test_worker.py::test_a_loss_that_is_no_number_is_pruned_as_diverged": (
        9,
        "training/test_trainer.py::test_a_loss_that_is_not_finite_is_a_verdict",
    ),
    "search/test_samplers.py::test_another_seed_gives_other_trials[gp]": (12, "the other samplers"),
    "search/test_samplers.py::test_several_objectives[gp]": (8, "the other samplers"),
    "search/test_samplers.py::test_one_worker_repeats_itself[gp]": (4, "its other form in search/test_suite.py"),
    "cli/test_foreign_packages.py::test_the_current_folder_shadows_nothing": (
        11,
        "cli/test_foreign_packages.py::test_somebody_elses_api_on_the_path_is_named",
    ),
    "test_examples.py::test_the_notebook_of_losses_runs": (10, "losses/test_library.py"),
    "report/test_command.py::test_pictures_show_where_losses_differ": (12, "the other tests of the report"),
    "api/test_dialogs.py::test_a_study_is_deleted_only_by_its_very_name": (
        11,
        "deletion over REST in api/test_contract.py",
    ),
    "analysis/test_pairwise_tests.py::test_holm_is_that_of_statsmodels": (
        7,
        "hand cases in analysis/test_pairwise_tests.py",
    ),
    "training/test_pretended_training.py::test_an_interrupted_training_continues_bit_for_bit[patches]": (
        7,
        "its other forms",
    ),
    "training/test_pretended_training.py::test_an_interrupted_training_continues_bit_for_bit[bfloat16]": (
        4,
        "its other forms",
    ),
    "data/test_cityscapes.py::test_training_counts_road_and_no_absent_class[share]": (7, "its form [test]"),
    "data/test_split_by_content.py::test_no_image_is_on_two_sides[nnunet-another-seed]": (5, "its other forms"),
    "api/test_browser.py::test_figures_keep_their_height_when_the_window_changes": (6, "api/test_linked_figures.py"),
    "api/test_linked_figures.py::test_a_trial_is_marked_wherever_it_shows": (
        7,
        "api/test_linked_figures.py::test_a_selection_in_one_figure_is_the_selection_of_all",
    ),
    "export/test_torch_file.py::test_a_sum_of_losses_is_taken_home": (
        5,
        "export/test_torch_file.py::test_the_winner_of_a_search_is_taken_home",
    ),
    "storage/test_backup.py::test_a_copy_is_of_one_moment_while_workers_write[postgres]": (6, "its form [sqlite]"),
    "storage/test_loss_time.py::test_more_time_goes_on_and_a_number_of_trials_is_refused[postgres]": (
        5,
        "its form [sqlite]",
    ),
    "storage/test_workers.py::test_a_trial_without_any_worker_comes_back[sqlite]": (
        8,
        "storage/test_workers.py::test_a_silent_worker_is_lost_and_a_beating_one_is_not",
    ),
    "storage/test_processes.py::test_random_kills_end_in_exactly_the_budget[postgres-seed-0]": (6, "its form [sqlite]"),
    "worker/test_endings.py::test_the_time_of_a_trial_begins_with_its_first_step": (
        7,
        "worker/test_endings.py::test_a_slow_training_is_not_taken_for_dead",
    ),
    "cli/test_loss_time.py::test_each_loss_has_its_time_which_may_rise": (
        6,
        "worker/test_loss_time.py and storage/test_loss_time.py",
    ),
    "cli/test_confirm.py::test_a_confirmation_is_renewed_when_the_search_has_found_others": (
        6,
        "cli/test_confirm.py::test_a_study_file_that_asks_for_it_is_gone_on_with",
    ),
    "api/test_browser.py::test_figures_are_drawn_and_told_as_tables": (
        13,
        "api/test_linked_figures.py, and the figures' JSON in api/test_figures.py",
    ),
    "api/test_browser.py::test_a_point_in_a_figure_leads_to_its_trial_and_its_predictions": (
        6,
        "api/test_linked_figures.py::test_a_selection_in_one_figure_is_the_selection_of_all",
    ),
    "api/test_linked_figures.py::test_on_a_telephone_figures_and_tables_can_be_read": (
        7,
        "api/test_browser.py::test_every_page_fits_and_is_silent",
    ),
    "api/test_linked_figures.py::test_figures_have_the_colours_of_the_dark_and_whole_epochs": (
        6,
        "api/test_browser.py::test_keys_and_theme",
    ),
    "api/test_annotations.py::test_notes_tags_and_stars_in_the_page": (
        15,
        "notes, tags and stars over REST in api/test_annotations.py",
    ),
    "api/test_dialogs.py::test_raising_the_budget_shows_the_numbers_of_now_and_resumes_nothing": (
        4,
        "budgets over REST in api/test_contract.py",
    ),
    "api/test_accessibility.py::test_nobody_sees_less_with_a_name_in_the_header": (6, "api/test_users.py"),
    "export/test_torch_file.py::test_a_changed_file_fails_its_test": (
        4,
        "export/test_torch_file.py::test_loss_and_network_run_where_only_torch_is",
    ),
    "cli/test_refusals.py::test_a_wrong_launch_is_refused_and_leaves_nothing[--devices=cuda:7]": (
        5,
        "launch/test_device_probe.py::test_a_device_that_is_not_here_is_refused_with_those_that_are",
    ),
    "storage/test_outages.py::test_a_restart_of_the_server_loses_nothing[stopped]": (4, "its form [killed]"),
    "cli/test_pretended_predict.py::test_masks_are_those_of_the_cpu[windows]": (4, "its other forms"),
    "search/test_tpe.py::test_as_good_as_optunas_group_decomposition": (
        5,
        "search/test_tpe.py::test_equal_to_optunas_own",
    ),
    "search/test_samplers.py::test_two_workers_never_suggest_equal_points[gp]": (
        3,
        "its other form in search/test_suite.py",
    ),
    "losses/test_properties.py::test_finite_at_both_ends_of_every_interval[inverse_form-2d]": (24, "the other losses"),
    "storage/test_migrations.py::test_every_released_schema_is_upgraded_on_postgresql[0002]": (
        2,
        "its forms of the oldest and newest schema",
    ),
    "storage/test_migrations.py::test_every_released_schema_is_upgraded_on_postgresql[0003]": (
        2,
        "its forms of the oldest and newest schema",
    ),
    "storage/test_migrations.py::test_every_released_schema_is_upgraded_on_postgresql[0004]": (
        2,
        "its forms of the oldest and newest schema",
    ),
    "storage/test_migrations.py::test_every_released_schema_is_upgraded_on_postgresql[0005]": (
        2,
        "its forms of the oldest and newest schema",
    ),
    "storage/test_backup.py::test_a_copy_of_an_older_version_is_upgraded_on_its_way_back[0003]": (
        2,
        "its forms of the oldest and newest schema",
    ),
    "storage/test_backup.py::test_a_copy_of_an_older_version_is_upgraded_on_its_way_back[0004]": (
        2,
        "its forms of the oldest and newest schema",
    ),
    "storage/test_backup.py::test_a_copy_of_an_older_version_is_upgraded_on_its_way_back[0005]": (
        2,
        "its forms of the oldest and newest schema",
    ),
    "api/test_kept_by_the_page.py::test_a_live_page_keeps_focus_scroll_and_folds": (
        15,
        "its other tests",
    ),
    "api/test_two_screens.py::test_the_pages_of_a_study_are_two_screens_long": (
        15,
        "nothing; heights change when a page is designed anew",
    ),
    "api/test_study_form.py::test_the_page_comes_with_what_its_file_says[?template=survey-synapse]": (
        4,
        "its form of the empty page",
    ),
    "api/test_study_form.py::test_the_page_comes_with_what_its_file_says[?study=organs]": (
        4,
        "its form of the empty page",
    ),
    "api/test_kept_by_the_page.py::test_a_dialog_that_is_asked_for_twice_keeps_what_is_typed": (
        6,
        "api/test_kept_by_the_page.py::test_what_is_sent_is_sent_once_and_what_is_typed_meanwhile_stays",
    ),
    "api/test_trial_table.py::test_thousands_of_rows_lie_in_their_places": (
        7,
        "api/test_browser.py::test_the_table_of_trials_filters_without_a_reload",
    ),
}

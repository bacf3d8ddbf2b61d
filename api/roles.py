"""Which role a write needs, by the name of its route. Reading needs `read`, and only where the service is private."""

READ = frozenset({"end_session"})
"""Writes that concern nothing but the sender's own sessions."""
RUN = frozenset(
    {
        "create_study",
        "pause_study",
        "stop_study",
        "resume_study",
        "raise_budget",
        "confirm_study",
        "enqueue_trial",
        "retry_trials",
        "prune_trial",
        "change_study",
        "change_trial",
        "annotate_trials",
        "write_draft",
        "submit_draft",
    }
)
"""Writes that use machines, or that add something."""
ADMIN = frozenset({"delete_study", "rename"})
"""Writes that take something away from others, or that move it out of their sight."""


def role_for_write(route: str) -> str:
    """Return the role that a write needs; what nobody has entered here is an administrator's."""
    return "read" if route in READ else "run" if route in RUN else "admin"

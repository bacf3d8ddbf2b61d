"""What complete trials scored by every stored metric, in narrow rows: ranking by one of them reads no epochs."""

from sqlalchemy import Connection, text

MEAN = ""
"""Label of a metric's mean over all classes; any other is a class."""

_INSERT = """
    INSERT INTO tuner_scores (study_id, metric, label, number, branch, value)
    SELECT a.study_id, m.key, '', a.number, coalesce(a.branch, ''), {mean}
    FROM tuner_attempts AS a
    JOIN tuner_epochs AS e ON e.trial_id = a.trial_id AND e.epoch = a.best_epoch
    {metrics}
    WHERE a.trial_id = :trial_id AND a.value IS NOT NULL AND {mean_is_number}
    UNION ALL
    SELECT a.study_id, m.key, c.key, a.number, coalesce(a.branch, ''), {of_class}
    FROM tuner_attempts AS a
    JOIN tuner_epochs AS e ON e.trial_id = a.trial_id AND e.epoch = a.best_epoch
    {classes}
    WHERE a.trial_id = :trial_id AND a.value IS NOT NULL AND {of_class_is_number}
"""
_SQLITE = text(
    _INSERT.format(
        metrics="JOIN json_each(e.metrics) AS m",
        classes="JOIN json_each(e.per_class) AS m "
        "JOIN json_each(CASE WHEN m.type = 'object' THEN m.value ELSE '{}' END) AS c",
        mean="m.value",
        of_class="c.value",
        mean_is_number="m.type IN ('real', 'integer')",
        of_class_is_number="c.type IN ('real', 'integer')",
    )
)
_OBJECT = "CROSS JOIN LATERAL json_each(CASE WHEN json_typeof({0}) = 'object' THEN {0} ELSE '{{}}' END)"
_POSTGRESQL = text(
    _INSERT.format(
        metrics=f"{_OBJECT.format('e.metrics')} AS m",
        classes=f"{_OBJECT.format('e.per_class')} AS m {_OBJECT.format('m.value')} AS c",
        mean="CAST(m.value #>> '{}' AS double precision)",
        of_class="CAST(c.value #>> '{}' AS double precision)",
        mean_is_number="json_typeof(m.value) = 'number'",
        of_class_is_number="json_typeof(c.value) = 'number'",
    )
)


def store_scores(connection: Connection, trial_id: int) -> None:
    """Write what a trial that has just ended scored at its best epoch, in one statement; nothing unless it is complete.

    A number that was not finite is stored as null with its epoch, and has no row.
    """
    connection.execute(_SQLITE if connection.dialect.name == "sqlite" else _POSTGRESQL, {"trial_id": trial_id})

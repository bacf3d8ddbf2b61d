"""A trial of a program as a shell script that runs the program again: arguments, environment and `config.json`."""

import json
import shlex

from tuner.config.command import CONFIG, document_of, fill, values_of, variables_of
from tuner.config.trial import TrialConfig
from tuner.errors import RequestError

_FOLDER = "@FOLDER@"
"""Stands for the folder, which whoever runs the script names; no value of a trial is spelt so."""


def command_script(config: TrialConfig) -> str:
    """Write the script. Raises RequestError for a trial that no program has trained."""
    command = config.train.command
    if command is None:
        raise RequestError(
            "its training is no program (`train.command`).", hint="Take yaml, json or python.", where="--format"
        )
    values = values_of(config.parameters(), folder=_FOLDER, device="cpu")
    content = {key: part for key, part in config.as_dict().items() if key != "provenance"}
    document = json.dumps(document_of(content, values), indent=2)
    exports = [f"export {name}={_quoted(text)}" for name, text in sorted(variables_of(values).items())]
    origin = config.provenance
    head = [] if not origin else [f"# Trial {origin['trial']} of study {origin['study']}."]
    lines = [
        "#!/bin/sh",
        *head,
        "# Usage: sh FILE [FOLDER]. TUNER_DEVICE is what the program is told of its device.",
        "set -e",
        "folder=${1:-final}",
        'mkdir -p "$folder"',
        'folder=$(cd "$folder" && pwd)',
        *exports,
        f'cat > "$folder/{CONFIG}" <<END_OF_CONFIG',
        _here(document),
        "END_OF_CONFIG",
        "exec " + " ".join(_quoted(argument) for argument in fill(command, values)),
    ]
    return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    """Quote a word for a shell, the folder by its variable."""
    return '"$folder"'.join(shlex.quote(part) if part else "" for part in text.split(_FOLDER)) or "''"


def _here(text: str) -> str:
    """Write a text as a here-document does not change it, but for the folder."""
    for sign in ("\\", "$", "`"):
        text = text.replace(sign, f"\\{sign}")
    return text.replace(_FOLDER, "$folder")

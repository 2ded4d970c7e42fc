"""The verbs and options that people and scripts rely on, and what every verb owes them."""

import inspect

import pytest

from platformops.cli.main import ACTIONS, VERBS, loaded

SURFACE = {
    "init": ["NAME", "--app", "--json", "--source", "--to"],
    "plan": ["SPEC", "--json", "--set"],
    "up": ["SPEC", "--json", "--port", "--set"],
    "run": ["SPEC", "--json", "--parallel", "--report", "--set", "--strict", "--until"],
    "release": ["SPEC", "--approved-by", "--environment", "--json", "--port", "--queue", "--set", "--watch"],
    "rollback": ["SYSTEM", "--as", "--json"],
    "pause": ["SYSTEM", "--as", "--json"],
    "resume": ["SYSTEM", "--as", "--json"],
    "abort": ["SYSTEM", "--as", "--json"],
    "approve": ["SYSTEM", "--as", "--json"],
    "drill": [],
    "drill release": ["SPEC", "--all", "--defect", "--json", "--rate", "--set"],
    "drill node": ["KINDS...", "--json"],
    "status": ["--json", "--watch"],
    "health": ["WHAT", "--json", "--watch"],
    "cordon": ["NODE", "--as", "--json"],
    "uncordon": ["NODE", "--as", "--json"],
    "drain": ["NODE", "--as", "--json"],
    "quota": ["TEAM", "--as", "--cpus", "--gpus", "--json", "--share"],
    "why": ["NAME", "SUBJECT", "--json", "--last", "--page"],
    "predict": ["FILES...", "SYSTEM", "--endpoint", "--json"],
    "models": ["MODEL", "--json"],
    "logs": ["--follow", "--json", "--lines", "--node", "--request", "--run", "--stage", "--trace", "--version"],
    "drift": ["SYSTEM", "--as", "--json", "--page", "--pause", "--resume"],
    "perf": ["FILE", "SYSTEM", "--json", "--page", "--replicas", "--rps", "--seconds"],
    "tune": ["FILE", "SYSTEM", "--json", "--replicas", "--seconds", "--slo", "--spec", "--write"],
    "observe": ["ACTION", "DIRECTORY", "--json", "--webhook"],
    "backup": ["FOLDER", "--json", "--restore"],
    "down": ["SYSTEM", "--json"],
    "build": ["SPEC", "--base", "--image", "--json", "--set", "--to"],
    "ci": [],
    "ci write": ["SPEC", "SYSTEM", "--json"],
    "ci check": ["SPEC", "--json"],
    "ci run": ["SPEC", "--approved-by", "--json", "--stage"],
    "ci smoke": ["SPEC", "--environment", "--json", "--or-rollback", "--report", "--requests", "--set"],
    "hooks": [],
    "hooks serve": ["SPECS...", "--host", "--json", "--port", "--release", "--update"],
    "hooks send": ["URL", "--as", "--delivery", "--json", "--revision"],
    "hooks log": ["--json", "--last"],
    "export": [],
    "export kube": ["SPEC", "--image", "--json", "--set", "--to", "--workers"],
    "schema": ["--json"],
}
"""A new option is added here on purpose; one that goes breaks somebody's script."""


def command_of(name):
    verb, _, action = name.partition(" ")
    return loaded(verb).commands[action] if action else loaded(verb)


def surface(name):
    found = []
    for parameter in command_of(name).params:
        if parameter.param_type_name == "argument":
            found.append(parameter.name.upper() + ("..." if parameter.nargs == -1 else ""))
        elif parameter.name != "help":
            found.append(max(parameter.opts, key=len))
    return sorted(found, key=lambda option: (option.startswith("-"), option))


def test_the_verbs_are_these():
    named = [name for verb in VERBS for name in (verb, *(f"{verb} {action}" for action in ACTIONS.get(verb, ())))]
    assert named == list(SURFACE)


@pytest.mark.parametrize("name", SURFACE)
def test_the_options_of_a_verb_are_these(name):
    assert surface(name) == SURFACE[name]


@pytest.mark.parametrize("name", SURFACE)
def test_every_verb_has_help_with_an_example(platformops, name):
    answer = platformops(*name.split(), "--help")
    assert answer.code == 0
    assert f"Example: platformops {name}" in answer.out
    assert "--json" in answer.out


@pytest.mark.parametrize("name", SURFACE)
def test_the_list_and_the_verb_say_the_same(name):
    assert inspect.getdoc(command_of(name).callback)


def test_help_lists_every_verb(platformops):
    answer = platformops("--help")
    assert answer.code == 0
    assert all(verb.help.split()[0] in answer.out and name in answer.out for name, verb in VERBS.items())


def test_the_version_is_told(platformops):
    assert platformops("--version").out.startswith("platformops ")

"""The verbs and options that people and scripts rely on, and what every verb owes them."""

import inspect

import pytest

from platformops.cli.main import VERBS, loaded

SURFACE = {
    "init": ["NAME", "--app", "--json", "--source", "--to"],
    "plan": ["SPEC", "--json", "--set"],
    "up": ["SPEC", "--json", "--port", "--set"],
    "run": ["SPEC", "--json", "--parallel", "--set"],
    "release": ["SPEC", "--json", "--port", "--queue", "--set", "--watch"],
    "rollback": ["SYSTEM", "--as", "--json"],
    "pause": ["SYSTEM", "--as", "--json"],
    "resume": ["SYSTEM", "--as", "--json"],
    "abort": ["SYSTEM", "--as", "--json"],
    "approve": ["SYSTEM", "--as", "--json"],
    "status": ["--json"],
    "why": ["SUBJECT", "--json", "--last"],
    "predict": ["FILES...", "SYSTEM", "--endpoint", "--json"],
    "models": ["MODEL", "--json"],
    "logs": ["--follow", "--json", "--lines", "--run"],
    "drift": ["SYSTEM", "--json"],
    "perf": ["FILE", "SYSTEM", "--json", "--replicas", "--rps", "--seconds"],
    "tune": ["FILE", "SYSTEM", "--json", "--replicas", "--seconds", "--slo"],
    "observe": ["ACTION", "DIRECTORY", "--json", "--webhook"],
    "down": ["SYSTEM", "--json"],
    "schema": ["--json"],
}
"""A new option is added here on purpose; one that goes breaks somebody's script."""


def surface(name):
    found = []
    for parameter in loaded(name).params:
        if parameter.param_type_name == "argument":
            found.append(parameter.name.upper() + ("..." if parameter.nargs == -1 else ""))
        elif parameter.name != "help":
            found.append(max(parameter.opts, key=len))
    return sorted(found, key=lambda option: (option.startswith("-"), option))


def test_the_verbs_are_these():
    assert list(VERBS) == list(SURFACE)


@pytest.mark.parametrize("name", SURFACE)
def test_the_options_of_a_verb_are_these(name):
    assert surface(name) == SURFACE[name]


@pytest.mark.parametrize("name", SURFACE)
def test_every_verb_has_help_with_an_example(platformops, name):
    answer = platformops(name, "--help")
    assert answer.code == 0
    assert f"Example: platformops {name}" in answer.out
    assert "--json" in answer.out


@pytest.mark.parametrize("name", SURFACE)
def test_the_list_and_the_verb_say_the_same(name):
    function = loaded(name).callback
    assert inspect.getdoc(function)


def test_help_lists_every_verb(platformops):
    answer = platformops("--help")
    assert answer.code == 0
    assert all(verb.help.split()[0] in answer.out and name in answer.out for name, verb in VERBS.items())


def test_the_version_is_told(platformops):
    assert platformops("--version").out.startswith("platformops ")

"""Completion scripts for shells, derived from the argument parser: no list of options is kept here."""

import argparse

from mm.sim.cli.frame import EXIT_OK, command


def add(commands):
    parser = command(commands, "completion", completion_command, "print a completion script for a shell")
    parser.add_argument("shell", choices=("bash", "zsh", "fish"))


def completion_command(args):
    """For example: mm completion bash > ~/.local/share/bash-completion/completions/mm"""
    from mm.sim.cli import build_parser

    print(script(args.shell, build_parser()))
    return EXIT_OK


def commands_of(parser):
    """{command: its parser} of a parser with subcommands."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            return dict(action.choices)
    return {}


def words_of(parser):
    """(options with help, choices of positional arguments, takes it files) of a parser."""
    options = {option: (action.help or "") % {"default": action.default, "prog": parser.prog}
               for action in parser._actions for option in action.option_strings}
    positional = [action for action in parser._actions if not action.option_strings]
    choices = [str(choice) for action in positional for choice in action.choices or ()
               if not isinstance(action, argparse._SubParsersAction)]
    return options, choices, any(action.choices is None for action in positional)


def help_of(parser, command):
    """The one-line help of a command."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            return next(pseudo.help for pseudo in action._choices_actions if pseudo.dest == command)
    return ""


def script(shell, parser):
    """The text to source in a shell: "bash", "zsh" or "fish"."""
    return {"bash": bash, "zsh": zsh, "fish": fish}[shell](parser)


def bash(parser):
    """A completion function for bash."""
    cases = []
    for name, sub in commands_of(parser).items():
        options, choices, _ = words_of(sub)
        cases.append(f'        {name}) words="{" ".join([*choices, *options])}" ;;')
    names = " ".join([*commands_of(parser), *words_of(parser)[0]])
    return "\n".join([
        "_mm() {",
        '    local words current="${COMP_WORDS[COMP_CWORD]}"',
        '    case "${COMP_WORDS[1]}" in',
        *cases,
        f'        *) words="{names}" ;;',
        "    esac",
        f'    if [ "$COMP_CWORD" -eq 1 ]; then words="{names}"; fi',
        '    COMPREPLY=($(compgen -W "$words" -- "$current"))',
        "}",
        "complete -o default -F _mm mm",
    ])


def _zsh_quote(text):
    return text.replace("\\", "\\\\").replace("'", "'\\''").replace("[", "\\[").replace("]", "\\]").replace(":", "\\:")


def zsh(parser):
    """A completion function for zsh."""
    cases = []
    for name, sub in commands_of(parser).items():
        options, choices, has_files = words_of(sub)
        arguments = [f"'{option}[{_zsh_quote(text)}]'" for option, text in options.items()]
        arguments += [f"'*:argument:({' '.join(choices)})'"] if choices else []
        arguments += ["'*:file:_files'"] if has_files else []
        cases.append(f"        {name}) _arguments {' '.join(arguments)} ;;")
    described = " ".join(f"'{name}:{_zsh_quote(help_of(parser, name))}'" for name in commands_of(parser))
    return "\n".join([
        "#compdef mm",
        "_mm() {",
        f"    local -a commands=({described})",
        "    if (( CURRENT == 2 )); then _describe command commands; return; fi",
        '    case "$words[2]" in',
        *cases,
        "    esac",
        "}",
        "compdef _mm mm",
    ])


def _fish_quote(text):
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def fish(parser):
    """Completion rules for fish."""
    lines = ["complete -c mm -f"]
    for name, sub in commands_of(parser).items():
        options, choices, has_files = words_of(sub)
        seen = f"-n '__fish_seen_subcommand_from {name}'"
        lines.append(f"complete -c mm -n __fish_use_subcommand -a {name} -d {_fish_quote(help_of(parser, name))}")
        if has_files:
            lines.append(f"complete -c mm {seen} -F")
        if choices:
            lines.append(f"complete -c mm {seen} -a '{' '.join(choices)}'")
        for option, text in options.items():
            flag = f"-l {option[2:]}" if option.startswith("--") else f"-s {option[1:]}"
            lines.append(f"complete -c mm {seen} {flag} -d {_fish_quote(text)}")
    return "\n".join(lines)

"""`--help` on one screen, with what people use first; `--help-all` lists every option."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

_WIDTH = 100
_ASKS = ("--help", "-h")
ALL = "--help-all"


@dataclass(frozen=True)
class ShortHelp:
    """`purpose`: a sentence; `examples`: command lines; `options`: heading → option with its value
    → what it does."""

    purpose: str
    examples: tuple[str, ...]
    options: Mapping[str, Mapping[str, str]]

    def text(self, command: str) -> str:
        """The whole page."""
        lines = [f"usage: momo {command} [OPTIONS]", "", *_wrapped(self.purpose, ""), ""]
        lines += [f"    {example}" for example in self.examples]
        wide = 2 + max(len(option) for group in self.options.values() for option in group)
        for heading, group in self.options.items():
            lines += ["", f"{heading}:"]
            for option, told in group.items():
                first, *rest = textwrap.wrap(told, _WIDTH - wide - 2)
                lines.append(f"  {option:<{wide}}{first}")
                lines += [" " * (wide + 2) + line for line in rest]
        return "\n".join([*lines, "", f"{ALL} lists every option."])


def _wrapped(text: str, indent: str) -> list[str]:
    return textwrap.wrap(text, _WIDTH, initial_indent=indent, subsequent_indent=indent)


def help_asked(command: str, page: ShortHelp, arguments: Sequence[str]) -> bool:
    """Print the page where it is asked for; True then."""
    if not any(a in _ASKS for a in arguments):
        return False
    print(page.text(command))
    return True


def for_parser(arguments: Sequence[str]) -> list[str]:
    """The arguments as a parser that knows `--help` only takes them."""
    return ["--help" if argument == ALL else argument for argument in arguments]

"""``lakehouse completion``: the script with which a shell completes our commands and options."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from lakehouse.cli.exit_status import statuses

PROGRAM = "lakehouse"
VARIABLE = "_LAKEHOUSE_COMPLETE"


@click.command(epilog=statuses("the script was printed"))
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def command(shell: str) -> None:
    """Print the completion script of a shell.

    \b
      bash: echo 'source <(lakehouse completion bash)' >> ~/.bashrc
      zsh:  echo 'source <(lakehouse completion zsh)' >> ~/.zshrc
      fish: lakehouse completion fish > ~/.config/fish/completions/lakehouse.fish
    """
    completer = get_completion_class(shell)
    assert completer is not None  # noqa: S101  click has the three
    root = click.get_current_context().find_root().command
    made = completer(root, {}, PROGRAM, VARIABLE)
    # Not `source()`, which runs the shell to see how old it is: the script may be for another machine.
    click.echo(made.source_template % made.source_vars())

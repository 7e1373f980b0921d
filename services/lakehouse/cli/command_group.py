"""A group of commands that are imported when they are asked for, and that knows what a wrong name may have meant."""

from __future__ import annotations

import click

from lakehouse.near_names import did_you_mean


class CommandGroup(click.Group):
    """Subclasses give `list_commands` and `get_command`."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        names = self.list_commands(ctx)
        if not (ctx.resilient_parsing or args[0].startswith("-") or args[0] in names):
            raise click.UsageError(f"No such command {args[0][:64]!r}{did_you_mean(args[0], names)}", ctx)
        return super().resolve_command(ctx, args)

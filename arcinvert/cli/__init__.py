"""The command line: a file per command, which parses, calls one library function and prints the result."""

import os
import signal
import sys
import traceback
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

from arcinvert import __version__
from arcinvert.cli import (
    align,
    audit,
    calibrate,
    checkpoint,
    convert,
    data,
    doctor,
    embed,
    faces,
    plot,
    presets,
    purify,
    schema,
    synth,
    train,
)
from arcinvert.cli import app as page
from arcinvert.cli import eval as evaluation
from arcinvert.cli.auditing import add_commands
from arcinvert.cli.common import log_to_stderr, printable, state
from arcinvert.cli.help import with_panels
from arcinvert.errors import ArcInvertError, without_passwords

# Typer's parser is click, or a copy of click in newer versions; this is the base of the parser's errors in either.
_USAGE = typer.BadParameter.__mro__[2]


class Commands(TyperGroup):
    """A group whose commands may have names of two words: ``audit diff`` stands beside ``audit STORE``."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        pair = " ".join(args[:2])
        if len(args) > 1 and pair in self.commands:
            return pair, self.commands[pair], args[2:]
        return super().resolve_command(ctx, args)


app = typer.Typer(
    name="arcinvert",
    cls=Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for command in (synth, presets, embed, align, train, purify, calibrate, convert, faces, page, doctor, schema):
    app.command(command.NAME)(command.main)
app.command(audit.NAME, context_settings=audit.CONTEXT)(audit.main)
add_commands(app)
app.add_typer(checkpoint.app, name=checkpoint.NAME)
app.add_typer(data.app, name=data.NAME)
app.add_typer(plot.app, name=plot.NAME)
app.add_typer(evaluation.app, name=evaluation.NAME)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"arcinvert {__version__}")
        raise typer.Exit


@app.callback()
def options(
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print no progress and no messages on stderr.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Print the traceback of an error.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Turn a face embedding back into a face; train and calibrate the recognizers that make it possible.

    Results go to stdout, messages to stderr. Options that are listed here are given before the command's name.

    Examples:
        arcinvert synth --photo photo.jpg -o out
        arcinvert audit people.parquet --judge judge.onnx -o audit
        arcinvert calibrate --checkpoint net.onnx -o net.safetensors
    """
    state.quiet, state.debug = quiet, debug
    log_to_stderr(quiet=quiet)


def parser() -> Any:
    """The parser of the whole command line, with the help of :mod:`arcinvert.cli.help`."""
    return with_panels(typer.main.get_command(app))


def run(arguments: list[str] | None = None) -> int:
    """Run one command and return its exit code; an error becomes one line on stderr."""
    signal.signal(signal.SIGTERM, _terminated)
    state.quiet = state.debug = False
    state.arguments = tuple(sys.argv[1:] if arguments is None else arguments)
    try:
        try:
            code = parser().main(arguments, prog_name="arcinvert", standalone_mode=False)
        finally:
            if state.line is not None:
                state.line.close()
        if sys.stdout is not None:  # it is None if it was closed before Python started
            sys.stdout.flush()
        # Typer turns a KeyboardInterrupt into this code without a message.
        return _failed(KeyboardInterrupt(), 130, "interrupted") if code == 130 else int(code or 0)
    except ArcInvertError as error:
        return _failed(error, error.exit_code)
    except typer.Exit as stop:
        return int(stop.exit_code)
    except (typer.Abort, KeyboardInterrupt):
        return _failed(KeyboardInterrupt(), 130, "interrupted")
    except BrokenPipeError:
        return _reader_gone()
    except SystemExit as stop:
        if isinstance(stop.__context__, BrokenPipeError):  # Typer turns it into an exit
            return _reader_gone()
        raise
    except OSError as error:
        _drop_unwritten()
        where = "" if error.filename is None else f"{error.filename!r}: "
        return _failed(error, 5, f"{where}{error.strerror or error}")
    except MemoryError as error:
        return _failed(error, 6, "out of memory; try a smaller --batch-size")
    except Exception as error:
        if isinstance(error, _USAGE):
            if type(error).__name__ == "NoArgsIsHelpError":
                print(error.format_message(), file=sys.stderr)  # type: ignore[attr-defined]
                return 2
            return _failed(error, 2, error.format_message())  # type: ignore[attr-defined]
        if type(error).__name__ == "OutOfMemoryError" or "can't allocate memory" in str(error):
            return _failed(error, 6, "out of memory; try a smaller --batch-size")
        text = f"{type(error).__name__}: {error}"
        return _failed(error, 1, f"this is a bug in arcinvert ({text}); --debug shows where")


def _failed(error: BaseException, code: int, message: str | None = None) -> int:
    if state.debug:
        print(without_passwords("".join(traceback.format_exception(error))), end="", file=sys.stderr)
    line = " ".join((message or str(error)).split())
    print(f"arcinvert: {printable(line)}", file=sys.stderr)
    return code


def _reader_gone() -> int:
    """End quietly after a closed pipe."""
    _stdout_to_null()
    return 0


def _drop_unwritten() -> None:
    """Drop what stdout does not take, such as on a full disk: Python's own flush would end with exit code 120."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError:
        _stdout_to_null()


def _stdout_to_null() -> None:
    """Lead what is left in the buffer to the null device, where it cannot raise again."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _terminated(number: int, frame: object) -> NoReturn:
    raise SystemExit(128 + number)


__all__ = ["app", "parser", "run"]

"""The command line of model_build: one file per group of commands, put together here.

A refusal is one sentence on stderr and exit status 1; a wrong call is 2. PyTorch takes seconds to load and `verify`
and `compile` do without it, so commands import what needs it when they run.
"""

import typer

from model_build.cli import bench, compile, export, quantize, verify

commands = typer.Typer(
    help="From a training checkpoint to a model directory that the service loads.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
commands.command("export")(export.export)
commands.command("made-up-checkpoint")(export.made_up_checkpoint)
commands.command("verify")(verify.verify)
commands.command("compile")(compile.compile_oms)
commands.command("all")(compile.build_everything)
commands.command("quantize")(quantize.quantize)
commands.command("openvino")(quantize.openvino)
commands.command("bench")(bench.bench)

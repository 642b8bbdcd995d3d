"""`mm fuzz`: random operations and audits."""

from mm.sim.cli.frame import EXIT_OK, EXIT_SHORT, Progress, command, positive


def add(commands):
    parser = command(commands, "fuzz", fuzz_command, "run random operations and audit the whole state again and again")
    parser.add_argument("--seconds", type=positive, default=10.0, metavar="N", help="how long (default: %(default)s)")
    parser.add_argument("--seed", type=int, metavar="S", help="first seed; with it the same rounds come again")
    parser.add_argument("--rounds", type=int, metavar="N", help="how many rounds at most, one a seed")


def fuzz_command(args):
    """Look for a broken invariant; the status is 1 if one was found."""
    from mm.debug.fuzz import fuzz as run

    progress = Progress()
    result = run(args.seconds, args.seed, args.rounds, on_round=progress)
    progress.clear()
    print(result)
    return EXIT_SHORT if result.failure else EXIT_OK

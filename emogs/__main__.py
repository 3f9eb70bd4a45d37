"""`python -m emogs` is the `emogs` command."""

from emogs.cli import main

if __name__ == "__main__":
    main()

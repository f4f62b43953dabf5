"""`python -m fertool` is the `fertool` command."""

from fertool.cli import main

if __name__ == "__main__":
    main()

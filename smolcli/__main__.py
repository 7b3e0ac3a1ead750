"""`python -m smolcli` is the command smolcli."""

from smolcli.cli import main

if __name__ == "__main__":
    main()

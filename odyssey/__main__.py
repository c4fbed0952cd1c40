"""`python -m odyssey`, the same as the `odyssey` command."""

from odyssey.cli import main

if __name__ == "__main__":
    main()

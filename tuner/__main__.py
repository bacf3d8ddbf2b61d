"""`python -m tuner` is `tuner`: how the launcher starts workers with the interpreter that it runs in itself."""

from tuner.cli import main

if __name__ == "__main__":
    main()

"""The vocabulary of the whole project: values, Protocols and errors; standard library only."""
